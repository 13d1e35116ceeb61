//! Any text as a policy of each kind: refused or decided by, explained and linted; never a panic, and a deny stays one.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use policies::{Context, Document, DocumentKind, Outcome, Policies, Principal, Request, decide, explain, lint};

fuzz_target!(|data: &str| {
    let (text, asked) = data.split_once('\0').unwrap_or((data, "arn:aws:kafka:r:123456789012:topic/c/u/t"));
    let identity: Vec<_> = Document::parse(text, DocumentKind::Identity).ok().map(Arc::new).into_iter().collect();
    let resource = Document::parse(text, DocumentKind::Resource).ok();
    let principal = Principal::parse("arn:aws:sts::123456789012:assumed-role/reader/s").expect("a session");
    let context: Context = [("aws:username", "a*"), ("aws:SourceIp", "10.0.0.1"), ("k", asked)].into_iter().collect();
    let action = "kafka-cluster:ReadData";
    let request = Request { principal: Some(&principal), action, resource: asked, context: &context };
    let policies = Policies { identity: &identity, resource: resource.as_ref(), ..Policies::default() };
    let decision = decide(policies, request);
    let told = explain(policies, request);
    assert_eq!(told.decision, decision);
    let _ = told.summary();
    identity.iter().map(|document| &**document).chain(&resource).for_each(|document| drop(lint(document)));
    // What bounds can only take away.
    let bounded = Policies { boundary: identity.first().map(|document| &**document), ..policies };
    let bounded = decide(bounded, request);
    assert!(!bounded.is_allowed() || decision.is_allowed());
    assert!(decision.outcome != Outcome::ExplicitDeny || bounded.outcome == Outcome::ExplicitDeny);
});
