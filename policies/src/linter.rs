//! What is valid and yet hardly meant: the classic holes, and statements that never match.

use crate::condition::{Condition, Quantifier};
use crate::document::{Document, Effect, Statement};
use crate::pattern::{Case, split};
use crate::vocabulary::{ACTIONS, KnownAction};

/// A warning about a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its number in the document, from 0.
    pub statement: usize,
    pub line: u32,
    /// Its name, to look up in `docs/policies.md`.
    pub rule: &'static str,
    pub message: String,
}

/// Warnings of a document, in order.
pub fn lint(document: &Document) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (number, statement) in document.statements().iter().enumerate() {
        let mut warn = |rule, message: String| {
            warnings.push(Warning { statement: number, line: statement.line, rule, message });
        };
        broad(statement, &mut warn);
        for condition in &statement.conditions {
            absent(statement, condition, &mut warn);
            comparisons(condition, &mut warn);
        }
        never(statement, document.has_variables(), &mut warn);
        if !document.has_variables() {
            let of_conditions = statement.conditions.iter().flat_map(|condition| &condition.shown);
            if statement.shown_resources.iter().chain(of_conditions).any(|text| text.contains("${")) {
                let message = "`${…}` is plain text here: variables need `\"Version\": \"2012-10-17\"`";
                warn("variable-in-old-version", message.to_owned());
            }
        }
    }
    warnings
}

type Warn<'a> = dyn FnMut(&'static str, String) + 'a;

fn broad(statement: &Statement, warn: &mut Warn<'_>) {
    let is_allow = statement.effect == Effect::Allow;
    let everything = |name: &str| format!("`{name}` with `Allow` grants everything that it does not name");
    if is_allow && statement.actions.is_not {
        warn("allow-not-action", everything("NotAction"));
    }
    if is_allow && statement.resources.is_not {
        warn("allow-not-resource", everything("NotResource"));
    }
    if let Some(principals) = &statement.principals {
        if is_allow && principals.is_not {
            warn(
                "allow-not-principal",
                "`NotPrincipal` with `Allow` grants to everybody else, also in other accounts".into(),
            );
        } else if principals.is_not {
            let message = "`NotPrincipal` with `Deny` spares only whom it names by ARN, role and account; a condition on \
                           `aws:PrincipalArn` says the same more clearly";
            warn("deny-not-principal", message.into());
        }
        if is_allow && !principals.is_not && principals.of.is_everybody() && statement.conditions.is_empty() {
            warn("allow-everybody", "everybody is allowed, in every account, without a condition".into());
        }
    }
    let all_actions = !statement.actions.is_not && statement.actions.of.iter().any(|action| action.is_any());
    let all_resources = !statement.resources.is_not && statement.shown_resources.iter().any(|text| &**text == "*");
    if is_allow && all_actions && all_resources && statement.principals.is_none() && statement.conditions.is_empty() {
        warn("allow-everything", "all actions on all resources are allowed without a condition".into());
    }
}

/// Conditions that hold of keys that are not there.
fn absent(statement: &Statement, condition: &Condition, warn: &mut Warn<'_>) {
    let is_guarded = statement.conditions.iter().any(|other| other.key == condition.key && other.demands_key());
    if statement.effect != Effect::Allow || is_guarded {
        return;
    }
    let key = &condition.shown_key;
    let guard = format!("add `\"Null\": {{\"{key}\": \"false\"}}`");
    if condition.quantifier == Some(Quantifier::All) {
        let message = format!("`{}` holds of a request without `{key}`: {guard}", condition.operator);
        warn("for-all-values-of-none", message);
    } else if condition.is_negated_alone() {
        let message = format!("`{}` holds of a request without `{key}`: {guard}, or deny instead", condition.operator);
        warn("negation-of-absent", message);
    }
}

fn comparisons(condition: &Condition, warn: &mut Warn<'_>) {
    let (operator, key) = (&condition.operator, &condition.shown_key);
    if condition.takes_stars_as_they_are() {
        warn(
            "wildcard-in-equals",
            format!("`{operator}` of `{key}` takes `*` and `?` as they are; `StringLike` does not"),
        );
    }
    if condition.is_no_arn() {
        warn(
            "no-arn",
            format!("`{operator}` of `{key}` compares with what is no ARN of six parts: nothing is like it"),
        );
    }
}

/// Statements that apply to no call of Weir's.
fn never(statement: &Statement, variables: bool, warn: &mut Warn<'_>) {
    if statement.actions.is_not {
        return;
    }
    let mut known: Vec<&KnownAction> = Vec::new();
    for action in &statement.actions.of {
        let empty = crate::Context::new();
        let matching: Vec<_> =
            ACTIONS.iter().filter(|known| action.matches(known.name, Case::Ignored, &empty)).collect();
        if matching.is_empty() {
            let alike = nearest(&action.to_string());
            warn("unknown-action", format!("`{action}` is no action that Weir knows{alike}"));
        }
        known.extend(matching);
    }
    if statement.resources.is_not || known.is_empty() {
        return;
    }
    for text in &statement.shown_resources {
        let parts = split(text, variables).and_then(|parts| <[&str; 5]>::try_from(parts).ok());
        let Some([_, service, region, account, resource]) = parts else { continue };
        let (kind, _) = resource.split_once('/').unwrap_or((resource, ""));
        let is_plain = |text: &str| !text.contains(['*', '?', '$']);
        if region.is_empty() || account.is_empty() {
            warn("empty-arn-part", format!("`{text}` has no region or no account: no resource of Weir's is like it"));
        } else if is_plain(service) && service != "kafka" {
            warn("unknown-service", format!("`{text}` is of the service `{service}`; Weir's resources are of `kafka`"));
        } else if is_plain(kind) && !known.iter().any(|action| action.resource.name() == kind) {
            let about: std::collections::BTreeSet<_> = known.iter().map(|action| action.resource.name()).collect();
            let about: Vec<_> = about.into_iter().collect();
            warn(
                "other-resource-type",
                format!("`{text}` is a `{kind}`; these actions are about `{}`", about.join("` and `")),
            );
        }
    }
}

fn nearest(action: &str) -> String {
    let name = |action: &'_ str| action.rsplit(':').next().unwrap_or_default().to_lowercase();
    let found = ACTIONS.iter().find(|known| name(known.name) == name(action));
    found.map_or(String::new(), |known| format!("; did you mean `{}`?", known.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DocumentKind;

    fn rules(kind: DocumentKind, statement: &str) -> Vec<&'static str> {
        let text = format!("{{\"Version\": \"2012-10-17\", \"Statement\": {{{statement}}}}}");
        let document = Document::parse(&text, kind).unwrap_or_else(|error| panic!("{text}: {error}"));
        lint(&document).into_iter().map(|warning| warning.rule).collect()
    }

    const TOPIC: &str = r#""Resource": "arn:aws:kafka:eu-west-1:123456789012:topic/c/*/t""#;

    #[test]
    fn each_hole_is_named() {
        let identity = |text: &str| rules(DocumentKind::Identity, text);
        let resource = |text: &str| rules(DocumentKind::Resource, text);
        let read = format!(r#""Effect": "Allow", "Action": "kafka-cluster:ReadData", {TOPIC}"#);
        assert_eq!(identity(&read), [] as [&str; 0]);
        let with = |condition: &str| format!(r#"{read}, "Condition": {condition}"#);
        let all = r#"{"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}"#;
        assert_eq!(identity(&with(all)), ["for-all-values-of-none"]);
        let guarded = r#"{"ForAllValues:StringEquals": {"aws:TagKeys": "a"}, "Null": {"AWS:tagkeys": "false"}}"#;
        assert_eq!(identity(&with(guarded)), [] as [&str; 0]);
        assert_eq!(identity(&with(r#"{"StringNotEquals": {"a:b": "c"}}"#)), ["negation-of-absent"]);
        assert_eq!(identity(&with(r#"{"StringEquals": {"a:b": "c*"}}"#)), ["wildcard-in-equals"]);
        assert_eq!(identity(&with(r#"{"ArnLike": {"a:b": "c*"}}"#)), ["no-arn"]);
        assert_eq!(identity(r#""Effect": "Allow", "Action": "*", "Resource": "*""#), ["allow-everything"]);
        assert_eq!(identity(&format!(r#""Effect": "Allow", "NotAction": "a:b", {TOPIC}"#)), ["allow-not-action"]);
        assert_eq!(identity(&format!(r#""Effect": "Deny", "NotAction": "a:b", {TOPIC}"#)), [] as [&str; 0]);
        let unknown = format!(r#""Effect": "Allow", "Action": "kafka:ReadData", {TOPIC}"#);
        assert_eq!(identity(&unknown), ["unknown-action"]);
        let own = TOPIC.replace("123456789012", "${aws:PrincipalAccount}");
        assert_eq!(
            identity(&format!(r#""Effect": "Allow", "Action": "kafka-cluster:ReadData", {own}"#)),
            [] as [&str; 0]
        );
        let other = format!(r#""Effect": "Allow", "Action": "kafka-cluster:Connect", {TOPIC}"#);
        assert_eq!(identity(&other), ["other-resource-type"]);
        let everybody = format!(r#"{read}, "Principal": "*""#);
        assert_eq!(resource(&everybody), ["allow-everybody"]);
        let others = format!(r#"{read}, "NotPrincipal": {{"AWS": "123456789012"}}"#);
        assert_eq!(resource(&others), ["allow-not-principal"]);
    }

    #[test]
    fn variables_of_the_old_version_are_plain_text() {
        let text = r#"{"Statement": {"Effect": "Allow", "Action": "kafka-cluster:ReadData",
            "Resource": "arn:aws:kafka:r:123456789012:topic/c/u/${aws:username}"}}"#;
        let document = Document::parse(text, DocumentKind::Identity).expect("a policy");
        let rules: Vec<_> = lint(&document).into_iter().map(|warning| warning.rule).collect();
        assert_eq!(rules, ["variable-in-old-version"]);
    }
}
