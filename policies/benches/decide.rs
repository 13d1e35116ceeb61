//! What a decision costs: a hundred statements, of which the last one allows.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use policies::{Context, Document, DocumentKind, Policies, Principal, Request, decide};

fn statements(numbers: std::ops::Range<usize>) -> String {
    let statement = |number: usize| {
        format!(
            r#"{{"Sid": "s{number}", "Effect": "Allow", "Action": ["kafka-cluster:*Topic", "kafka-cluster:ReadData"],
                "Resource": "arn:aws:kafka:eu-west-1:123456789012:topic/orders/*/team-{number}-*",
                "Condition": {{"StringEquals": {{"aws:PrincipalTag/team": "t{number}"}}, "IpAddress": {{"aws:SourceIp": "10.0.0.0/8"}}}}}}"#
        )
    };
    let all: Vec<String> = numbers.map(statement).collect();
    format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, all.join(","))
}

fn bench(criterion: &mut Criterion) {
    // Documents are bounded: a hundred statements are several of them.
    let part = |part: usize| {
        let text = statements(25 * part..25 * (part + 1));
        Arc::new(Document::parse(&text, DocumentKind::Identity).expect("a policy"))
    };
    let parts: Vec<Arc<Document>> = (0..4).map(part).collect();
    let principal = Principal::parse("arn:aws:iam::123456789012:user/alice").expect("a user");
    let context: Context = [("aws:PrincipalTag/team", "t99"), ("aws:SourceIp", "10.1.2.3")].into_iter().collect();
    let ask = |resource: &str, action: &str| {
        let request = Request { principal: Some(&principal), action, resource, context: &context };
        decide(Policies { identity: &parts, ..Policies::default() }, request)
    };
    let topic =
        "arn:aws:kafka:eu-west-1:123456789012:topic/orders/4ee5d2a1-0000-1111-2222-333344445555-1/team-99-clicks";
    assert!(ask(topic, "kafka-cluster:ReadData").is_allowed());
    criterion.bench_function("100 statements, allowed", |bench| bench.iter(|| ask(topic, "kafka-cluster:ReadData")));
    criterion.bench_function("100 statements, denied", |bench| bench.iter(|| ask(topic, "kafka-cluster:WriteData")));
    let other = topic.replace("team-99", "team-100");
    criterion
        .bench_function("100 statements, no resource", |bench| bench.iter(|| ask(&other, "kafka-cluster:ReadData")));
}

criterion_group!(benches, bench);
criterion_main!(benches);
