//! Why a call was allowed or not, and what would allow it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::arn::Arn;
use crate::condition::{Condition, Quantifier};
use crate::context::Context;
use crate::decision::{Decision, Layer, Mismatch, Outcome, Place, Policies, Request, decide};
use crate::document::{Document, DocumentKind, Effect, Statement};

/// All that led to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub decision: Decision,
    /// Of every statement, in order.
    pub reports: Vec<StatementReport>,
    /// Each layer that did not allow it, for an implicit deny: all of them must.
    pub missing: Vec<Missing>,
    /// Condition keys that policies ask for and the request does not have, as they are written there.
    pub absent_keys: Vec<String>,
}

/// What became of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementReport {
    pub place: Place,
    pub sid: Option<String>,
    pub effect: Effect,
    /// Where it begins in its document, from 1.
    pub line: u32,
    pub fit: Fit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    Applies,
    Not {
        /// The first element that does not match, as it is called in the language.
        element: &'static str,
        /// What was compared.
        detail: String,
    },
}

/// A layer that did not allow a call, and the least that would change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub layer: Layer,
    pub action: String,
    pub resource: String,
    /// A document that allows this call and nothing else, as JSON.
    pub document: String,
}

impl StatementReport {
    /// How people find it: by its Sid, or by its number.
    pub fn name(&self) -> String {
        match &self.sid {
            Some(sid) => format!("`{sid}`"),
            None => format!("number {} (line {})", self.place.statement + 1, self.line),
        }
    }
}

impl Explanation {
    /// One sentence.
    pub fn summary(&self) -> String {
        let by = self.decision.by.and_then(|by| self.reports.iter().find(|report| report.place == by));
        match (self.decision.outcome, by, self.missing.first()) {
            (Outcome::Allowed, Some(by), _) => {
                format!("allowed by statement {} of the {}", by.name(), by.place.layer.name())
            }
            (Outcome::ExplicitDeny, Some(by), _) => {
                format!("denied by statement {} of the {}", by.name(), by.place.layer.name())
            }
            (_, _, Some(missing)) => {
                format!("no {} allows `{}` on `{}`", missing.layer.name(), missing.action, missing.resource)
            }
            (outcome, ..) => outcome.name().to_owned(),
        }
    }
}

/// Decides as [`decide`] does, and says how it came about.
pub fn explain(policies: Policies<'_>, request: Request<'_>) -> Explanation {
    let decision = decide(policies, request);
    let arn = Arn::parse(request.resource);
    let (mut reports, mut absent) = (Vec::new(), BTreeSet::new());
    for (layer, document, policy) in policies.all() {
        for (number, statement) in policy.statements().iter().enumerate() {
            absent.extend(statement.absent_keys(request.context));
            let fit = match statement.fit(request, arn.as_ref()) {
                Ok(_) => Fit::Applies,
                Err(mismatch) => statement.tell(mismatch, request),
            };
            reports.push(StatementReport {
                place: Place { layer, document, statement: number },
                sid: statement.sid().map(str::to_owned),
                effect: statement.effect,
                line: statement.line,
                fit,
            });
        }
    }
    let mut missing = Vec::new();
    // What is proposed for one layer may show the next.
    let (mut proposed, mut lacking) = (Proposed::default(), decision.lacking);
    while let Some(layer) = lacking {
        let document = remedy(layer, request);
        if missing.iter().any(|known: &Missing| known.layer == layer) || !proposed.add(layer, &document) {
            break;
        }
        let (action, resource) = (request.action.to_owned(), request.resource.to_owned());
        missing.push(Missing { layer, action, resource, document });
        lacking = decide(proposed.to(policies), request).lacking;
    }
    Explanation { decision, reports, missing, absent_keys: absent.into_iter().collect() }
}

/// Documents that would allow a call, by layer.
#[derive(Default)]
struct Proposed {
    identity: Vec<Arc<Document>>,
    others: BTreeMap<Layer, Document>,
}

impl Proposed {
    /// False if it is no document after all: the caller or the resource has no name that one could have.
    fn add(&mut self, layer: Layer, text: &str) -> bool {
        let kind = if layer == Layer::Resource { DocumentKind::Resource } else { DocumentKind::Identity };
        let Ok(document) = Document::parse(text, kind) else { return false };
        match layer {
            Layer::Identity => self.identity.push(Arc::new(document)),
            _ => drop(self.others.insert(layer, document)),
        }
        true
    }

    /// Nothing of what is there denies explicitly: what is proposed may stand instead of it.
    fn to<'a>(&'a self, policies: Policies<'a>) -> Policies<'a> {
        Policies {
            identity: if self.identity.is_empty() { policies.identity } else { &self.identity },
            resource: self.others.get(&Layer::Resource).or(policies.resource),
            boundary: self.others.get(&Layer::Boundary).or(policies.boundary),
            session: self.others.get(&Layer::Session).or(policies.session),
        }
    }
}

fn remedy(layer: Layer, request: Request<'_>) -> String {
    let mut statement = serde_json::Map::new();
    statement.insert("Effect".into(), "Allow".into());
    if let (Layer::Resource, Some(principal)) = (layer, request.principal) {
        statement.insert("Principal".into(), serde_json::json!({ "AWS": principal.arn() }));
    }
    statement.insert("Action".into(), request.action.into());
    statement.insert("Resource".into(), escaped(request.resource).into());
    // Of this version, for the sake of what is escaped.
    serde_json::json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
}

/// A resource whose name has wildcards or variables in it, as a policy of version 2012-10-17 names it.
fn escaped(resource: &str) -> String {
    if resource == "*" {
        return resource.to_owned();
    }
    let special = |c: char| matches!(c, '*' | '?') || c == '$';
    resource.chars().map(|c| if special(c) { format!("${{{c}}}") } else { c.to_string() }).collect()
}

impl Statement {
    fn absent_keys(&self, context: &Context) -> impl Iterator<Item = String> {
        let of_conditions = self.conditions.iter().map(|condition| (&condition.key, &condition.shown_key));
        let of_variables = self.required.iter().map(|required| (&required.key, &required.shown));
        let all = of_conditions.chain(of_variables);
        all.filter(|(key, _)| context.get(key).is_empty()).map(|(_, shown)| shown.to_string())
    }

    fn tell(&self, mismatch: Mismatch, request: Request<'_>) -> Fit {
        let not = |name: &'static str, not_name: &'static str, is_not: bool| if is_not { not_name } else { name };
        let (element, detail) = match mismatch {
            Mismatch::Action => (
                not("Action", "NotAction", self.actions.is_not),
                format!("`{}` against {}", request.action, listed(self.actions.of.iter().map(ToString::to_string))),
            ),
            Mismatch::Resource => (
                not("Resource", "NotResource", self.resources.is_not),
                format!(
                    "`{}` against {}",
                    request.resource,
                    listed(self.shown_resources.iter().map(ToString::to_string))
                ),
            ),
            Mismatch::Principal => (
                not("Principal", "NotPrincipal", self.principals.as_ref().is_some_and(|principals| principals.is_not)),
                format!(
                    "{} against {}",
                    request
                        .principal
                        .map_or("a caller that is not told".to_owned(), |caller| format!("`{}`", caller.arn())),
                    listed(self.principals.iter().flat_map(|principals| principals.of.names()).map(str::to_owned))
                ),
            ),
            Mismatch::Variable(number) => {
                let key = &self.required[number].shown;
                let count = request.context.get(&self.required[number].key).len();
                let why = if count == 0 { "has no value" } else { "has several values" };
                ("a variable", format!("`${{{key}}}` {why}, so that the statement does not apply"))
            }
            Mismatch::Condition(number) => ("Condition", tell_condition(&self.conditions[number], request.context)),
        };
        Fit::Not { element, detail }
    }
}

/// The first few of them, and how many more there are.
fn listed(texts: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<String> = texts.map(|text| format!("`{text}`")).collect();
    match all.len() {
        0 => "nothing".to_owned(),
        count if count > SHOWN => format!("{} and {} more", all[..SHOWN].join(", "), count - SHOWN),
        _ => all.join(", "),
    }
}

fn tell_condition(condition: &Condition, context: &Context) -> String {
    let values = context.get(&condition.key);
    let found = match (values, condition.quantifier) {
        ([], Some(Quantifier::Any)) => "absent, which `ForAnyValue` never matches".to_owned(),
        ([], _) => "absent".to_owned(),
        _ => listed(values.iter().cloned()),
    };
    let asked = listed(condition.shown.iter().map(ToString::to_string));
    format!("`{}` of `{}`: {found} against {asked}", condition.operator, condition.shown_key)
}
