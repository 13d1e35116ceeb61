//! `weir policy`: documents checked and calls decided offline; what needs a gateway is in `identity.rs`.

use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use policies::{Arn, Context, Document, DocumentKind, Explanation, Fit, Policies, Principal, Request, explain, lint};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::identity;
use crate::cli::{PolicyCommand, SimulateOptions};
use crate::output::{Failure, Output, print};

pub async fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Lint { files, resource_policy, strict, output } => {
            let of = |files: Vec<_>, kind| files.into_iter().map(move |file| (file, kind));
            let all: Vec<(std::path::PathBuf, DocumentKind)> =
                of(files, DocumentKind::Identity).chain(of(resource_policy, DocumentKind::Resource)).collect();
            lint_all(&all, strict, output)
        }
        PolicyCommand::Put { name_and_file, delete, to, target } => {
            identity::put_policy(&name_and_file, delete, to, target).await
        }
        PolicyCommand::List { to, target } => identity::list_policies(to, target).await,
        PolicyCommand::Why { decision, target } => identity::why(&decision, &target).await,
        PolicyCommand::Simulate(options) => match &options.cases {
            Some(file) => simulate_cases(file),
            None => simulate(&options),
        },
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| Failure::failed(format!("`{}`: {error}", file.display())))?;
    Ok(text)
}

fn document(file: &Path, kind: DocumentKind) -> Result<Document, Failure> {
    let text = read(file)?;
    Document::parse(&text, kind).map_err(|invalid| Failure::failed(format!("`{}`: {invalid}", file.display())))
}

fn lint_all(files: &[(std::path::PathBuf, DocumentKind)], strict: bool, output: Output) -> Result<(), Failure> {
    if files.is_empty() {
        return Err(Failure::usage("a document is needed: weir policy lint FILE…"));
    }
    let (mut rows, mut found, mut errors) = (Vec::new(), Vec::new(), 0);
    for (file, kind) in files {
        let name = file.display().to_string();
        let text = read(file)?;
        match Document::parse(&text, *kind) {
            Ok(document) => {
                for warning in lint(&document) {
                    let place = format!("{name}:{}", warning.line);
                    rows.push(vec![place, "warning".into(), warning.rule.into(), warning.message.clone()]);
                    found.push(json!({ "file": name, "line": warning.line, "level": "warning", "rule": warning.rule,
                        "message": warning.message }));
                }
            }
            Err(invalid) => {
                errors += 1;
                let place = format!("{name}:{}:{}", invalid.line, invalid.column);
                rows.push(vec![place, "error".into(), "not-valid".into(), invalid.message.clone()]);
                found.push(json!({ "file": name, "line": invalid.line, "column": invalid.column, "level": "error",
                    "rule": "not-valid", "message": invalid.message }));
            }
        }
    }
    let warnings = found.len() - errors;
    print(output, &Value::from(found), &["PLACE", "LEVEL", "RULE", "MESSAGE"], rows);
    match (errors, warnings) {
        (0, 0) => Ok(()),
        (0, _) if !strict => Ok(()),
        (0, _) => Err(Failure::failed(format!("warnings: {warnings}"))),
        _ => Err(Failure::failed(format!("documents that are not valid: {errors}"))),
    }
}

/// What calls are decided by.
struct Documents {
    identity: Vec<Arc<Document>>,
    resource: Option<Document>,
    boundary: Option<Document>,
    session: Option<Document>,
}

impl Documents {
    /// `parse` is told the document's name in a case, for its error.
    fn parse<S, E>(
        identity: impl Iterator<Item = S>,
        [resource, boundary, session]: [Option<S>; 3],
        parse: impl Fn(&str, S, DocumentKind) -> Result<Document, E>,
    ) -> Result<Self, E> {
        let one = |name, source: Option<S>, kind| source.map(|source| parse(name, source, kind)).transpose();
        Ok(Self {
            identity: identity
                .map(|source| parse("identity", source, DocumentKind::Identity).map(Arc::new))
                .collect::<Result<_, _>>()?,
            resource: one("resource_policy", resource, DocumentKind::Resource)?,
            boundary: one("boundary", boundary, DocumentKind::Identity)?,
            session: one("session", session, DocumentKind::Identity)?,
        })
    }

    fn policies(&self) -> Policies<'_> {
        Policies {
            identity: &self.identity,
            resource: self.resource.as_ref(),
            boundary: self.boundary.as_ref(),
            session: self.session.as_ref(),
        }
    }
}

fn principal(text: &str) -> Result<Principal, Failure> {
    Principal::parse(text).map_err(Failure::usage)
}

fn simulate(options: &SimulateOptions) -> Result<(), Failure> {
    let documents = Documents::parse(
        options.policy.iter(),
        [&options.resource_policy, &options.boundary, &options.session].map(Option::as_ref),
        |_, file, kind| document(file, kind),
    )?;
    let principal = options.principal.as_deref().map(principal).transpose()?;
    let context = context(&options.context, principal.as_ref())?;
    let policies = documents.policies();
    let (mut rows, mut answers) = (Vec::new(), Vec::new());
    for action in &options.action {
        for resource in &options.resource {
            check(action, resource).map_err(Failure::usage)?;
            let request = Request { principal: principal.as_ref(), action, resource, context: &context };
            let told = explain(policies, request);
            let decision = told.decision.outcome.name();
            rows.push(vec![action.clone(), resource.clone(), decision.to_owned(), told.summary()]);
            let mut answer = answer(&told);
            answer.insert("action".into(), action.as_str().into());
            answer.insert("resource".into(), resource.as_str().into());
            answer.insert("why".into(), told.summary().into());
            if options.explain {
                rows.extend(reports(&told));
            }
            if options.explain || options.output == Output::Json {
                answer.insert("reports".into(), report_json(&told));
            }
            let layers = told.missing.len();
            for (number, missing) in told.missing.iter().enumerate() {
                let which = if layers == 1 { String::new() } else { format!(" ({} of {layers})", number + 1) };
                let text = format!("this as {} would allow it{which}: {}", missing.layer.name(), missing.document);
                rows.push(vec![String::new(), String::new(), String::new(), text]);
            }
            let proposed = told.missing.iter().map(|missing| {
                let document: Value = serde_json::from_str(&missing.document).unwrap_or(Value::Null);
                json!({ "layer": missing.layer.name(), "policy": document })
            });
            answer.insert("would_allow".into(), proposed.collect());
            answers.push(Value::Object(answer));
        }
    }
    print(options.output, &Value::from(answers), &["ACTION", "RESOURCE", "DECISION", "WHY"], rows);
    Ok(())
}

fn reports(told: &Explanation) -> impl Iterator<Item = Vec<String>> {
    told.reports.iter().map(|report| {
        let text = match &report.fit {
            Fit::Applies => "applies".to_owned(),
            Fit::Not { element, detail } => format!("does not apply: {element}: {detail}"),
        };
        let name = format!("{:?} {} of the {}", report.effect, report.name(), report.place.layer.name());
        vec![String::new(), String::new(), String::new(), format!("{name} {text}")]
    })
}

fn report_json(told: &Explanation) -> Value {
    let all = told.reports.iter().map(|report| {
        let (element, detail) = match &report.fit {
            Fit::Applies => (Value::Null, Value::Null),
            Fit::Not { element, detail } => ((*element).into(), detail.as_str().into()),
        };
        json!({ "layer": report.place.layer.name(), "document": report.place.document,
            "statement": report.place.statement, "sid": report.sid, "line": report.line,
            "effect": format!("{:?}", report.effect), "applies": report.fit == Fit::Applies, "element": element,
            "detail": detail })
    });
    all.collect()
}

/// An action such as `kafka-cluster:ReadData`, not a pattern of them, and the ARN of a resource.
fn check(action: &str, resource: &str) -> Result<(), String> {
    let parts = action.split_once(':').filter(|_| !action.contains(['*', '?']));
    if !parts.is_some_and(|(service, name)| !service.is_empty() && !name.is_empty()) {
        return Err(format!("`{action}` is no action: expected `service:Action`, without wildcards"));
    }
    if resource != "*" && Arn::parse(resource).is_none() {
        return Err(format!("`{resource}` is no resource: expected an ARN, or `*` for what is about none"));
    }
    Ok(())
}

fn context(pairs: &[String], principal: Option<&Principal>) -> Result<Context, Failure> {
    let mut context = Context::new();
    let mut given = std::collections::BTreeSet::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("--context `{pair}`: KEY=VALUE is what it takes")));
        };
        given.insert(key.to_lowercase());
        context.add(key, value);
    }
    let of = principal.map(Principal::keys);
    for (key, value) in of.into_iter().flatten().filter(|(key, _)| !given.contains(&key.to_lowercase())) {
        context.add(key, value);
    }
    Ok(context)
}

/// A case of `--cases`. Policies are kept as they are written: keys that are there twice are an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case<'a> {
    #[serde(default)]
    id: Value,
    #[serde(borrow, default)]
    identity: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    resource_policy: Option<&'a RawValue>,
    #[serde(borrow, default)]
    boundary: Option<&'a RawValue>,
    #[serde(borrow, default)]
    session: Option<&'a RawValue>,
    #[serde(default)]
    principal: Option<String>,
    action: String,
    resource: String,
    #[serde(default)]
    context: Map<String, Value>,
}

fn simulate_cases(file: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("`{}`: {error}", file.display()));
    let input: Box<dyn BufRead> = match file.to_str() {
        Some("-") => Box::new(BufReader::new(std::io::stdin())),
        _ => Box::new(BufReader::new(std::fs::File::open(file).map_err(failed)?)),
    };
    let mut output = BufWriter::new(std::io::stdout().lock());
    for line in input.lines() {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = match serde_json::from_str::<Case>(&line) {
            Ok(case) => decided(&case).unwrap_or_else(|error| json!({ "id": case.id, "error": error })),
            Err(error) => {
                let id = serde_json::from_str::<Value>(&line).map(|case| case["id"].clone()).unwrap_or_default();
                json!({ "id": id, "error": format!("the case: {error}") })
            }
        };
        match writeln!(output, "{answer}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    match output.flush() {
        // A reader that has gone is no error.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        flushed => Ok(flushed?),
    }
}

fn decided(case: &Case<'_>) -> Result<Value, String> {
    let documents = Documents::parse(
        case.identity.iter().copied(),
        [case.resource_policy, case.boundary, case.session],
        |name, text, kind| Document::parse(text.get(), kind).map_err(|invalid| format!("{name}: {invalid}")),
    )?;
    let principal = case.principal.as_deref().map(Principal::parse).transpose()?;
    check(&case.action, &case.resource)?;
    let mut context = Context::new();
    for (key, value) in &case.context {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            match value {
                Value::String(text) => context.add(key, text.as_str()),
                Value::Bool(_) | Value::Number(_) => context.add(key, value.to_string()),
                _ => return Err(format!("context: `{key}`: expected a string, or a list of them")),
            }
        }
    }
    let policies = documents.policies();
    let request =
        Request { principal: principal.as_ref(), action: &case.action, resource: &case.resource, context: &context };
    let mut answer = answer(&explain(policies, request));
    answer.insert("id".into(), case.id.clone());
    Ok(Value::Object(answer))
}

/// The decision, the statements that apply with its effect, and the condition keys that were asked for and not given.
fn answer(told: &Explanation) -> Map<String, Value> {
    let is_deny = told.decision.outcome == policies::Outcome::ExplicitDeny;
    let effect = if is_deny { policies::Effect::Deny } else { policies::Effect::Allow };
    let applies = told.reports.iter().filter(|report| report.fit == Fit::Applies && report.effect == effect);
    let name = |report: &policies::StatementReport| {
        report.sid.clone().unwrap_or_else(|| {
            format!("{}[{}].Statement[{}]", report.place.layer.name(), report.place.document, report.place.statement)
        })
    };
    let mut answer = Map::new();
    answer.insert("decision".into(), told.decision.outcome.name().into());
    answer.insert("statements".into(), applies.map(name).collect());
    answer.insert("missing".into(), told.absent_keys.iter().map(String::as_str).collect());
    answer
}
