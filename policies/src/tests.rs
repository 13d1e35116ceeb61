//! The language by examples, each with both outcomes, and by properties.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const TOPIC: &str = "arn:aws:kafka:eu-west-1:123456789012:topic/orders/u-1/clicks";
const ALICE: &str = "arn:aws:iam::123456789012:user/alice";
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/reader/s1";

fn parse(kind: DocumentKind, statements: &str) -> Document {
    let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
    Document::parse(&text, kind).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn identity(statements: &str) -> Arc<Document> {
    Arc::new(parse(DocumentKind::Identity, statements))
}

fn ask(policies: Policies<'_>, principal: &str, context: &[(&str, &str)]) -> &'static str {
    ask_for(policies, principal, "kafka-cluster:ReadData", TOPIC, context)
}

fn ask_for(
    policies: Policies<'_>,
    principal: &str,
    action: &str,
    resource: &str,
    context: &[(&str, &str)],
) -> &'static str {
    let principal = Principal::parse(principal).expect("a principal");
    let context = context.iter().copied().collect();
    let request = Request { principal: Some(&principal), action, resource, context: &context };
    let decision = decide(policies, request);
    assert_eq!(explain(policies, request).decision, decision);
    decision.outcome.name()
}

/// What one statement of an identity policy decides.
fn one(statement: &str, action: &str, resource: &str, context: &[(&str, &str)]) -> bool {
    let documents = [identity(statement)];
    let policies = Policies { identity: &documents, ..Policies::default() };
    ask_for(policies, ALICE, action, resource, context) == "allowed"
}

fn condition(condition: &str, context: &[(&str, &str)]) -> bool {
    let statement = format!(r#"{{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {condition}}}"#);
    one(&statement, "a:b", "*", context)
}

#[test]
fn actions_have_no_case_and_match_whole() {
    let allows = |pattern: &str, action: &str| {
        one(&format!(r#"{{"Effect": "Allow", "Action": "{pattern}", "Resource": "*"}}"#), action, TOPIC, &[])
    };
    assert!(allows("KAFKA-cluster:readdata", "kafka-cluster:ReadData"));
    assert!(allows("kafka-cluster:*Topic", "kafka-cluster:DescribeTopic"));
    assert!(!allows("kafka-cluster:*Topic", "kafka-cluster:DescribeTopicDynamicConfiguration"));
    assert!(allows("kafka-cluster:R?adData", "kafka-cluster:ReadData"));
    assert!(!allows("kafka-cluster:?ReadData", "kafka-cluster:ReadData"));
    assert!(!allows("kafka:*", "kafka-cluster:ReadData"));
}

#[test]
fn resources_match_part_by_part() {
    let allows = |pattern: &str, resource: &str| {
        one(&format!(r#"{{"Effect": "Allow", "Action": "*", "Resource": "{pattern}"}}"#), "a:b", resource, &[])
    };
    let arn = |part: &str| format!("arn:aws:kafka:eu-west-1:123456789012:{part}");
    assert!(allows(&arn("topic/orders/*"), TOPIC));
    assert!(allows(&arn("*/clicks"), TOPIC));
    assert!(allows(&arn("topic/*/clicks"), &arn("topic/a/b:c/clicks")), "over slashes and colons of the last part");
    assert!(
        !allows("arn:aws:kafka:eu-west-1:*:x", &arn("topic/orders/u-1/clicks:x")),
        "no star runs into the next part"
    );
    assert!(allows("arn:*:*:*:*:topic/orders/u-1/clicks", TOPIC));
    assert!(!allows(&arn("topic/Orders/*"), TOPIC), "case matters");
    assert!(!allows(&arn("topic/orders/u-1/click"), TOPIC));
    assert!(allows(&arn("group/c/u/?"), &arn("group/c/u/*")), "a group may be called so");
    assert!(!allows(&arn("group/c/u/a"), &arn("group/c/u/*")));
    assert!(allows(&arn("group/c/u/?"), &arn("group/c/u/ü")), "one character, not one byte");
}

#[test]
fn keys_that_are_absent() {
    let absent = |text: &str| condition(text, &[]);
    assert!(!absent(r#"{"StringEquals": {"k": "v"}}"#));
    assert!(absent(r#"{"StringNotEquals": {"k": "v"}}"#));
    assert!(absent(r#"{"StringEqualsIfExists": {"k": "v"}}"#));
    assert!(absent(r#"{"StringNotEqualsIfExists": {"k": "v"}}"#));
    assert!(!absent(r#"{"ForAnyValue:StringEquals": {"k": "v"}}"#));
    assert!(!absent(r#"{"ForAnyValue:StringNotEquals": {"k": "v"}}"#));
    assert!(absent(r#"{"ForAnyValue:StringEqualsIfExists": {"k": "v"}}"#));
    assert!(absent(r#"{"ForAllValues:StringEquals": {"k": "v"}}"#));
    assert!(absent(r#"{"Null": {"k": "true"}}"#) && !absent(r#"{"Null": {"k": "false"}}"#));
    assert!(absent(r#"{"NotIpAddress": {"k": "10.0.0.0/8"}}"#) && !absent(r#"{"Bool": {"k": "false"}}"#));
}

#[test]
fn several_keys_values_and_operators() {
    let two = r#"{"StringEquals": {"a": ["1", "2"], "B": "x"}}"#;
    assert!(condition(two, &[("A", "2"), ("b", "x")]), "keys have no case");
    assert!(!condition(two, &[("a", "2"), ("b", "X")]), "values have");
    assert!(!condition(two, &[("a", "2")]));
    let neither = r#"{"StringNotEquals": {"a": ["1", "2"]}}"#;
    assert!(condition(neither, &[("a", "3")]) && !condition(neither, &[("a", "2")]));
    assert!(!condition(neither, &[("a", "3"), ("a", "2")]), "none of several may match");
    let any = r#"{"ForAnyValue:StringLike": {"a": ["x*", "y"]}}"#;
    assert!(condition(any, &[("a", "q"), ("a", "xx")]) && !condition(any, &[("a", "q"), ("a", "yy")]));
    let all = r#"{"ForAllValues:StringLike": {"a": ["x*", "y"]}}"#;
    assert!(condition(all, &[("a", "y"), ("a", "xx")]) && !condition(all, &[("a", "q"), ("a", "xx")]));
    let some_not = r#"{"ForAnyValue:StringNotEquals": {"a": "x"}}"#;
    assert!(condition(some_not, &[("a", "x"), ("a", "y")]) && !condition(some_not, &[("a", "x")]));
}

#[test]
fn each_operator_compares_in_its_own_way() {
    let holds = |operator: &str, asked: &str, found: &str| {
        condition(&format!(r#"{{"{operator}": {{"k": {asked}}}}}"#), &[("k", found)])
    };
    for (operator, asked, yes, no) in [
        ("StringEquals", r#""a*""#, "a*", "ab"),
        ("StringEqualsIgnoreCase", r#""ÄB""#, "äb", "äc"),
        ("StringNotEqualsIgnoreCase", r#""AB""#, "b", "ab"),
        ("StringLike", r#""a*c?""#, "abbcd", "abbc"),
        ("StringNotLike", r#""a*""#, "ba", "ab"),
        ("NumericEquals", "10", "10.0", "11"),
        ("NumericEquals", r#""9007199254740993""#, "9007199254740993", "9007199254740992"),
        ("NumericNotEquals", "10", "no number", "1e1"),
        ("NumericLessThan", r#""10""#, "9.5", "10"),
        ("NumericLessThanEquals", "10", "10", "10.1"),
        ("NumericGreaterThan", "-1", "0", "-1"),
        ("NumericGreaterThanEquals", "1.5", "1.5", "1"),
        ("DateEquals", r#""2026-11-27T01:00:00+01:00""#, "2026-11-27", "2026-11-28"),
        ("DateEquals", "1764201600", "2025-11-27T00:00:00Z", "1764201601"),
        ("DateEquals", r#""2026-11""#, "2026-11-01T00:00:00Z", "2026-11-01T00:00:00[Europe/Berlin]"),
        ("DateNotEquals", r#""2026-11-27""#, "2026-11-28", "2026-11-27T00:00:00"),
        ("DateLessThan", r#""2026-11-27""#, "2026-11-26T23:59:59Z", "2026-11-27"),
        ("DateGreaterThanEquals", r#""2026-11-27""#, "2026-11-27", "2026-11-26T23:59:59.5Z"),
        ("Bool", "true", "TRUE", "false"),
        ("BinaryEquals", r#""aGk=""#, "aGk=", "aGk"),
        ("IpAddress", r#""10.1.2.3/8""#, "10.200.0.1", "11.0.0.1"),
        ("IpAddress", r#""10.1.2.3""#, "10.1.2.3", "10.1.2.4"),
        ("IpAddress", r#""0.0.0.0/0""#, "1.2.3.4", "::1"),
        ("IpAddress", r#""2001:db8::/32""#, "2001:db8:1::", "2001:db9::"),
        ("NotIpAddress", r#""0.0.0.0/0""#, "::1", "1.2.3.4"),
        ("ArnLike", r#""arn:aws:kafka:*:*:topic/*""#, TOPIC, "arn:aws:kafka:a:b:group/a/b/topic/"),
        ("ArnEquals", r#""arn:aws:kafka:*:*:topic/*""#, TOPIC, "arn:aws:kafka:a:topic/x"),
        ("ArnNotEquals", r#""arn:aws:kafka:*:*:topic/*""#, "arn:aws:kafka:a:b:group/x", TOPIC),
        ("Null", "false", "", "-"),
    ] {
        assert!(holds(operator, asked, yes), "{operator} {asked} {yes}");
        assert!(operator == "Null" || !holds(operator, asked, no), "{operator} {asked} {no}");
    }
}

#[test]
fn variables_stand_for_values_and_not_for_patterns() {
    let statement = |resource: &str| {
        let arn = format!("arn:aws:kafka:eu-west-1:123456789012:topic/orders/u-1/{resource}");
        format!(r#"{{"Effect": "Allow", "Action": "*", "Resource": "{arn}"}}"#)
    };
    let allows = |resource: &str, context: &[(&str, &str)]| one(&statement(resource), "a:b", TOPIC, context);
    assert!(allows("${aws:PrincipalTag/t}", &[("AWS:principaltag/T", "clicks")]));
    assert!(!allows("${aws:PrincipalTag/t}", &[("aws:PrincipalTag/t", "*")]), "a star in a value is a star");
    assert!(!allows("${aws:PrincipalTag/t}*", &[]), "without a value it does not apply");
    assert!(!allows("*${aws:PrincipalTag/t}", &[("aws:PrincipalTag/t", "a"), ("aws:PrincipalTag/t", "clicks")]));
    assert!(allows("${aws:PrincipalTag/t, 'clicks'}", &[]) && allows("${ t ,'cl'}icks", &[]));
    assert!(!allows("click${?}", &[]) && !allows("${*}", &[]));
    let dollars = statement("${$}{x}").replace("orders/u-1/", "");
    assert!(one(&dollars, "a:b", "arn:aws:kafka:eu-west-1:123456789012:topic/${x}", &[]));
    let not = format!(
        r#"{{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:kafka:*:*:topic/{}"}}"#,
        "${aws:PrincipalTag/t}"
    );
    assert!(!one(&not, "a:b", TOPIC, &[]), "nor with NotResource");
    assert!(one(&not, "a:b", TOPIC, &[("aws:PrincipalTag/t", "other")]));
    assert!(!one(&not, "a:b", TOPIC, &[("aws:PrincipalTag/t", "a"), ("aws:PrincipalTag/t", "b")]), "nor of several");
    let old = r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:kafka:a:1:topic/${x}"}}"#;
    let document = [Arc::new(Document::parse(old, DocumentKind::Identity).expect("a policy"))];
    let policies = Policies { identity: &document, ..Policies::default() };
    assert_eq!(ask_for(policies, ALICE, "a:b", "arn:aws:kafka:a:1:topic/${x}", &[]), "implicitDeny", "another account");
}

#[test]
fn layers_within_an_account() {
    let allow = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
    let other = r#"{"Effect": "Allow", "Action": "a:b", "Resource": "*"}"#;
    let (allowing, not_allowing) = ([identity(allow)], [identity(other)]);
    let (wide, narrow) = (parse(DocumentKind::Identity, allow), parse(DocumentKind::Identity, other));
    let by = |principal: &str| {
        let statement =
            allow.replace("\"Action\"", &format!("\"Principal\": {{\"AWS\": \"{principal}\"}}, \"Action\""));
        parse(DocumentKind::Resource, &statement)
    };
    let base = Policies { identity: &allowing, ..Policies::default() };
    assert_eq!(ask(base, ALICE, &[]), "allowed");
    assert_eq!(ask(Policies { identity: &not_allowing, ..base }, ALICE, &[]), "implicitDeny");
    assert_eq!(ask(Policies { boundary: Some(&wide), session: Some(&wide), ..base }, SESSION, &[]), "allowed");
    assert_eq!(ask(Policies { boundary: Some(&narrow), ..base }, ALICE, &[]), "implicitDeny");
    assert_eq!(ask(Policies { session: Some(&narrow), ..base }, SESSION, &[]), "implicitDeny");
    let limited = Policies { identity: &not_allowing, boundary: Some(&narrow), session: Some(&narrow), ..base };
    // By its own ARN, or everybody: beyond all that is not explicit.
    for principal in [SESSION, "*"] {
        assert_eq!(ask(Policies { resource: Some(&by(principal)), ..limited }, SESSION, &[]), "allowed", "{principal}");
    }
    // By its role: within boundary and session.
    let role = by("arn:aws:iam::123456789012:role/reader");
    let resource = Some(&role);
    assert_eq!(ask(Policies { resource, ..limited }, SESSION, &[]), "implicitDeny");
    assert_eq!(ask(Policies { resource, identity: &not_allowing, ..Policies::default() }, SESSION, &[]), "allowed");
    assert_eq!(ask(Policies { resource, boundary: Some(&wide), ..Policies::default() }, SESSION, &[]), "allowed");
    // By its account: an identity policy is still needed.
    for account in ["123456789012", "arn:aws:iam::123456789012:root"] {
        let account = by(account);
        let resource = Some(&account);
        assert_eq!(
            ask(Policies { resource, identity: &not_allowing, ..Policies::default() }, ALICE, &[]),
            "implicitDeny"
        );
        assert_eq!(ask(Policies { resource, ..base }, ALICE, &[]), "allowed");
    }
}

#[test]
fn across_accounts_both_sides_must_allow() {
    let allow = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
    let documents = [identity(allow)];
    let named = allow.replace("\"Action\"", r#""Principal": {"AWS": "210987654321"}, "Action""#);
    let resource = parse(DocumentKind::Resource, &named);
    let other = "arn:aws:iam::210987654321:user/bob";
    let both = Policies { identity: &documents, resource: Some(&resource), ..Policies::default() };
    assert_eq!(ask(both, other, &[]), "allowed");
    assert_eq!(ask(Policies { resource: None, ..both }, other, &[]), "implicitDeny");
    assert_eq!(ask(Policies { identity: &[], ..both }, other, &[]), "implicitDeny");
    let narrow = parse(DocumentKind::Identity, r#"{"Effect": "Allow", "Action": "a:b", "Resource": "*"}"#);
    assert_eq!(ask(Policies { boundary: Some(&narrow), ..both }, other, &[]), "implicitDeny");
}

#[test]
fn a_role_that_calls_is_known_by_its_own_arn_too() {
    let role = "arn:aws:iam::123456789012:role/ops";
    let deny = |principals: &str| {
        let text = format!(
            r#"{{"Effect": "Deny", "NotPrincipal": {{"AWS": {principals}}}, "Action": "*", "Resource": "*"}},
               {{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}"#
        );
        let document = parse(DocumentKind::Resource, &text);
        ask(Policies { resource: Some(&document), ..Policies::default() }, role, &[])
    };
    assert_eq!(deny(r#""123456789012""#), "explicitDeny");
    assert_eq!(deny(&format!(r#"["{role}", "123456789012"]"#)), "allowed");
}

#[test]
fn the_strongest_naming_of_a_resource_policy_counts() {
    let allow = |principal: &str| {
        format!(r#"{{"Effect": "Allow", "Principal": {{"AWS": "{principal}"}}, "Action": "*", "Resource": "*"}}"#)
    };
    for statements in [[allow("123456789012"), allow(ALICE)], [allow(ALICE), allow("123456789012")]] {
        let document = parse(DocumentKind::Resource, &statements.join(","));
        assert_eq!(ask(Policies { resource: Some(&document), ..Policies::default() }, ALICE, &[]), "allowed");
    }
}

#[test]
fn not_principal_spares_whom_it_names_by_all_names() {
    let deny = |principals: &str| {
        let text = format!(
            r#"{{"Effect": "Deny", "NotPrincipal": {{"AWS": {principals}}}, "Action": "*", "Resource": "*"}},
               {{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}"#
        );
        parse(DocumentKind::Resource, &text)
    };
    let decided = |principals: &str, principal: &str| {
        ask(Policies { resource: Some(&deny(principals)), ..Policies::default() }, principal, &[])
    };
    assert_eq!(decided(&format!(r#"["{ALICE}", "123456789012"]"#), ALICE), "allowed");
    assert_eq!(decided(&format!(r#""{ALICE}""#), ALICE), "explicitDeny");
    assert_eq!(decided(r#""123456789012""#, ALICE), "explicitDeny");
    let role = "arn:aws:iam::123456789012:role/reader";
    assert_eq!(decided(&format!(r#"["{SESSION}", "{role}", "123456789012"]"#), SESSION), "allowed");
    assert_eq!(decided(&format!(r#"["{SESSION}", "123456789012"]"#), SESSION), "explicitDeny");
}

#[test]
fn what_is_not_valid_is_refused_with_its_place() {
    let refused = |kind, text: &str, word: &str| {
        let error = Document::parse(text, kind).expect_err(text);
        assert!(error.message.contains(word), "{text}: {error}");
        (error.line, error.column)
    };
    let statement = |inner: &str| format!("{{\"Version\": \"2012-10-17\",\n \"Statement\": [{{{inner}}}]}}");
    let identity = |inner: &str, word: &str| refused(DocumentKind::Identity, &statement(inner), word);
    assert_eq!(identity(r#""Effect": "allow", "Action": "*", "Resource": "*""#, "`Allow` or `Deny`"), (2, 27));
    for (inner, word) in [
        (r#""Action": "*", "Resource": "*""#, "needs `Effect`"),
        (r#""Effect": "Deny", "Resource": "*""#, "needs `Action`"),
        (r#""Effect": "Deny", "Action": "*""#, "needs `Resource`"),
        (r#""Effect": "Deny", "Action": [], "Resource": "*""#, "empty"),
        (r#""Effect": "Deny", "Action": "*", "Resource": []"#, "empty"),
        (r#""Effect": "Deny", "Action": "Read", "Resource": "*""#, "service:Action"),
        (r#""Effect": "Deny", "Action": "kafka*:Read", "Resource": "*""#, "without a wildcard"),
        (r#""Effect": "Deny", "Action": "*", "NotAction": "a:b", "Resource": "*""#, "exclude each other"),
        (r#""Effect": "Deny", "Action": "*", "Resource": "topic/x""#, "six parts"),
        (r#""Effect": "Deny", "Action": "*", "Resource": "arn:aws:kafka:r:1""#, "six parts"),
        (r#""Effect": "Deny", "Action": "*", "Resource": "*", "Principal": "*""#, "only a resource policy"),
        (r#""Sid": "a-b", "Effect": "Deny", "Action": "*", "Resource": "*""#, "letters and digits"),
        (r#""Effect": "Deny", "Effect": "Deny", "Action": "*", "Resource": "*""#, "twice"),
        (r#""Effect": "Deny", "Action": "*", "Resource": "*", "When": {}"#, "`When`: expected"),
        (r#""Effect": "Deny", "Action": 1, "Resource": "*""#, "expected a string"),
    ] {
        identity(inner, word);
    }
    let condition = |text: &str, word: &str| {
        identity(&format!(r#""Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {text}"#), word);
    };
    condition(r#"{"BoolNot": {"a": "true"}}"#, "no condition operator");
    condition(r#"{"stringEquals": {"a": "b"}}"#, "did you mean `StringEquals`");
    condition(r#"{"NullIfExists": {"a": "true"}}"#, "`Null` stands alone");
    condition(r#"{"ForAll:StringEquals": {"a": "true"}}"#, "ForAllValues:");
    condition(r#"{"NumericEquals": {"a": "ten"}}"#, "no number");
    condition(r#"{"DateEquals": {"a": "tomorrow"}}"#, "no date");
    condition(r#"{"IpAddress": {"a": "10.0.0.0/33"}}"#, "no address");
    condition(r#"{"Bool": {"a": "yes"}}"#, "neither");
    condition(r#"{"BinaryEquals": {"a": "?"}}"#, "base64");
    condition(r#"{"StringEquals": {"a": "${b"}}"#, "no `}`");
    condition(r#"{"StringEquals": {"a": null}}"#, "not null");
    let resource = |principal: &str, word: &str| {
        let inner = format!(r#""Effect": "Deny", "Action": "*", "Resource": "*", "Principal": {principal}"#);
        refused(DocumentKind::Resource, &statement(&inner), word);
    };
    resource(r#""alice""#, "expected `\"*\"`");
    resource("{}", "expected `\"*\"`");
    resource(r#"{"AWS": []}"#, "empty");
    resource(r#"{"Who": "*"}"#, "`Who`");
    resource(r#"{"AWS": "arn:aws:iam::123456789012:user/*"}"#, "wildcard");
    resource(r#"{"AWS": "1234"}"#, "not a principal");
    refused(
        DocumentKind::Resource,
        &statement(r#""Effect": "Deny", "Action": "*", "Resource": "*""#),
        "needs `Principal`",
    );
    refused(DocumentKind::Identity, r#"{"Version": "2020-01-01", "Statement": []}"#, "`2012-10-17` or");
    refused(DocumentKind::Identity, r#"{"Statement": []}"#, "empty");
    refused(DocumentKind::Identity, "{}", "needs `Statement`");
    refused(DocumentKind::Identity, &" ".repeat(DOCUMENT_BYTES_MAX + 1), "at most");
    let twice = r#"{"Sid": "a", "Effect": "Deny", "Action": "*", "Resource": "*"}"#;
    refused(DocumentKind::Identity, &format!(r#"{{"Statement": [{twice}, {twice}]}}"#), "there twice");
}

#[test]
fn a_denial_says_what_is_missing_and_the_least_that_allows_it() {
    let documents = [identity(
        r#"{"Sid": "read", "Effect": "Allow", "Action": "kafka-cluster:ReadData", "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/Team": "blue"}}}"#,
    )];
    let policies = Policies { identity: &documents, ..Policies::default() };
    let principal = Principal::parse(ALICE).expect("a user");
    let ask = |resource: &str, context: &Context| {
        let action = "kafka-cluster:ReadData";
        explain(policies, Request { principal: Some(&principal), action, resource, context })
    };
    let empty = Context::new();
    let told = ask(TOPIC, &empty);
    assert_eq!(told.summary(), format!("no identity policy allows `kafka-cluster:ReadData` on `{TOPIC}`"));
    assert_eq!(told.absent_keys, ["aws:PrincipalTag/Team"]);
    let Fit::Not { element, detail } = &told.reports[0].fit else { panic!("it does not apply") };
    assert_eq!(
        (*element, detail.as_str()),
        ("Condition", "`StringEquals` of `aws:PrincipalTag/Team`: absent against `blue`")
    );
    // What it proposes allows this and nothing else, whatever the name.
    for name in ["clicks", "a*", "a?", "$x", "${y}"] {
        let resource = format!("arn:aws:kafka:eu-west-1:123456789012:group/orders/u-1/{name}");
        let missing = ask(&resource, &empty).missing.remove(0);
        let added = [Arc::new(Document::parse(&missing.document, DocumentKind::Identity).expect("a policy"))];
        let policies = Policies { identity: &added, ..Policies::default() };
        assert_eq!(ask_for(policies, ALICE, &missing.action, &resource, &[]), "allowed", "{name}");
        let other = "arn:aws:kafka:eu-west-1:123456789012:group/orders/u-1/ab";
        assert_eq!(ask_for(policies, ALICE, &missing.action, other, &[]), "implicitDeny", "{name}");
    }
}

/// Every layer that does not allow it is named; with what is proposed for each of them it is allowed.
#[test]
fn all_layers_that_lack_are_named() {
    let narrow = parse(DocumentKind::Identity, r#"{"Effect": "Allow", "Action": "a:b", "Resource": "*"}"#);
    let other = Principal::parse("arn:aws:sts::210987654321:assumed-role/reader/s").expect("a session");
    let context = Context::new();
    let request =
        Request { principal: Some(&other), action: "kafka-cluster:ReadData", resource: TOPIC, context: &context };
    let policies = Policies { boundary: Some(&narrow), session: Some(&narrow), ..Policies::default() };
    let told = explain(policies, request);
    let layers: Vec<Layer> = told.missing.iter().map(|missing| missing.layer).collect();
    assert_eq!(layers, [Layer::Identity, Layer::Boundary, Layer::Session, Layer::Resource]);
    let text = |layer| &told.missing.iter().find(|missing| missing.layer == layer).expect("it is missing").document;
    let document = |layer, kind| Document::parse(text(layer), kind).expect("a policy");
    let identity = [Arc::new(document(Layer::Identity, DocumentKind::Identity))];
    let (boundary, session) =
        (document(Layer::Boundary, DocumentKind::Identity), document(Layer::Session, DocumentKind::Identity));
    let resource = document(Layer::Resource, DocumentKind::Resource);
    let with =
        Policies { identity: &identity, resource: Some(&resource), boundary: Some(&boundary), session: Some(&session) };
    assert!(decide(with, request).is_allowed());
}

#[test]
fn what_is_no_arn_is_nobodys_own() {
    let documents = [identity(r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#)];
    let policies = Policies { identity: &documents, ..Policies::default() };
    for (resource, decided) in [("*", "allowed"), ("orders", "implicitDeny"), ("arn:aws:kafka:r:1", "implicitDeny")] {
        assert_eq!(ask_for(policies, ALICE, "a:b", resource, &[]), decided, "{resource}");
    }
}

#[test]
fn variables_count_in_values_that_are_no_arn() {
    assert!(!condition(r#"{"ArnNotLike": {"k": "${t}"}}"#, &[("k", "x")]), "without a value it does not apply");
    assert!(condition(r#"{"ArnNotLike": {"k": "${t}"}}"#, &[("k", "x"), ("t", "x")]), "nothing is like it");
    let many = "${t}".repeat(17);
    let text = format!(
        r#"{{"Statement": {{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition":
        {{"StringLike": {{"k": "{many}"}}}}}}, "Version": "2012-10-17"}}"#
    );
    let error = Document::parse(&text, DocumentKind::Identity).expect_err("too many");
    assert!(error.message.contains("16 at most"), "{error}");
    for text in ["${t", "arn:aws:kafka:${t:1:x"] {
        let text = format!(
            r#"{{"Statement": {{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition":
            {{"ArnLike": {{"k": "{text}"}}}}}}, "Version": "2012-10-17"}}"#
        );
        assert!(Document::parse(&text, DocumentKind::Identity).is_err(), "{text}");
    }
}

/// Statements of a small world, so that they often meet.
fn statement() -> impl Strategy<Value = String> {
    let effect = prop_oneof![Just("Allow"), Just("Deny")];
    let action = prop_oneof![Just("*"), Just("kafka-cluster:ReadData"), Just("kafka-cluster:*Topic")];
    let resource = prop_oneof![Just("*"), Just(TOPIC), Just("arn:aws:kafka:*:*:topic/*/${aws:PrincipalTag/t}")];
    let condition = prop_oneof![
        Just("{}"),
        Just(r#"{"StringEquals": {"a": "1"}}"#),
        Just(r#"{"ForAllValues:StringNotEquals": {"a": "1"}}"#),
        Just(r#"{"Null": {"b": "true"}}"#),
    ];
    (effect, any::<bool>(), action, any::<bool>(), resource, condition).prop_map(
        |(effect, is_not_action, action, is_not_resource, resource, condition)| {
            let not = |is_not: bool| if is_not { "Not" } else { "" };
            let (actions, resources) = (not(is_not_action), not(is_not_resource));
            format!(
                r#"{{"Effect": "{effect}", "{actions}Action": "{action}", "{resources}Resource": "{resource}", "Condition": {condition}}}"#
            )
        },
    )
}

fn documents(statements: &[String]) -> Vec<Arc<Document>> {
    statements.iter().map(|statement| identity(statement)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_deny_wins_in_any_order_and_one_more_allows_nothing(
        statements in prop::collection::vec(statement(), 1..6),
        denies in prop::collection::vec(statement(), 0..2),
        a in prop::option::of("[12]"),
        tag in prop::option::of("clicks|other|\\*"),
    ) {
        let context: Vec<(&str, &str)> =
            a.iter().map(|a| ("a", a.as_str())).chain(tag.iter().map(|tag| ("aws:PrincipalTag/t", tag.as_str()))).collect();
        let decided = |statements: &[String]| {
            let documents = documents(statements);
            ask(Policies { identity: &documents, ..Policies::default() }, ALICE, &context)
        };
        let before = decided(&statements);
        let reversed: Vec<String> = statements.iter().rev().cloned().collect();
        prop_assert_eq!(before, decided(&reversed));
        let is_denied = statements.iter().any(|one| decided(std::slice::from_ref(one)) == "explicitDeny");
        prop_assert_eq!(before == "explicitDeny", is_denied);
        let mut more = statements.clone();
        more.extend(denies.iter().map(|statement| statement.replace("\"Allow\"", "\"Deny\"")));
        let after = decided(&more);
        prop_assert!(after != "allowed" || before == "allowed");
    }

    #[test]
    fn no_text_makes_a_pattern_panic(pattern in "[*?${}a, ':é]{0,20}", text in "[*?${}a, ':é]{0,20}") {
        let document = format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*", "Resource": "*",
                "Condition": {{"StringLike": {{"a": {pattern:?}}}}}}}}}"#
        );
        if let Ok(document) = Document::parse(&document, DocumentKind::Identity) {
            let documents = [Arc::new(document)];
            let policies = Policies { identity: &documents, ..Policies::default() };
            let _ = ask(policies, ALICE, &[("a", &text)]);
        }
    }
}
