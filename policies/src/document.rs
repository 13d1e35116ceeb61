//! Documents: what a valid one is, and how its statements are kept to be decided by.

use std::collections::BTreeSet;
use std::fmt;

use crate::DOCUMENT_BYTES_MAX;
use crate::condition::{Condition, conditions};
use crate::pattern::{ArnPattern, Pattern, Syntax};
use crate::principal::Principals;
use crate::reader::{At, Node, Value, read};

/// Why a text is no valid document, and where; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub line: u32,
    pub column: u32,
    /// What was expected.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Invalid {}

/// What a document is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// A user or role, or the bounds of one: its statements name no principal.
    Identity,
    /// A cluster: each of its statements names principals.
    Resource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// A policy that was found valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    statements: Box<[Statement]>,
    /// It is of version 2012-10-17; in others `${…}` is plain text.
    has_variables: bool,
}

/// One statement of a [`Document`].
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub(crate) sid: Option<Box<str>>,
    pub(crate) effect: Effect,
    pub(crate) line: u32,
    pub(crate) principals: Option<Selection<Principals>>,
    pub(crate) actions: Selection<Box<[Pattern]>>,
    pub(crate) resources: Selection<Box<[ArnPattern]>>,
    pub(crate) conditions: Box<[Condition]>,
    /// What variables without a default stand for: without a value for each of them the statement does not apply.
    pub(crate) required: Box<[Required]>,
    /// Resources as they are written.
    pub(crate) shown_resources: Box<[Box<str>]>,
}

/// A condition key that a variable stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Required {
    /// In lower case.
    pub key: Box<str>,
    pub shown: Box<str>,
}

/// An element, or its `Not…` form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selection<T> {
    pub of: T,
    pub is_not: bool,
}

const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];
const ELEMENTS: &str = "`Sid`, `Effect`, `Principal`, `NotPrincipal`, `Action`, `NotAction`, `Resource`, `NotResource` or \
                        `Condition`";

impl Document {
    /// From JSON. What is unknown to Weir is no error (an action of another service never matches), what is against the
    /// grammar is.
    pub fn parse(text: &str, kind: DocumentKind) -> Result<Self, Invalid> {
        if text.len() > DOCUMENT_BYTES_MAX {
            let message = format!("the document has {} bytes; {DOCUMENT_BYTES_MAX} at most", text.len());
            return Err(Invalid { line: 1, column: 1, message });
        }
        let root = read(text)?;
        let (mut version, mut statements) = (VERSIONS[1], None);
        for (key, at, node) in root.object("a policy")? {
            match key.as_str() {
                "Version" => {
                    let text = node.text("`Version`")?;
                    let Some(known) = VERSIONS.into_iter().find(|known| *known == text) else {
                        return node.at.refuse(format!("`Version`: expected `{}` or `{}`", VERSIONS[0], VERSIONS[1]));
                    };
                    version = known;
                }
                "Id" => drop(node.text("`Id`")?),
                "Statement" => statements = Some(node),
                _ => return at.refuse(format!("`{key}`: expected `Version`, `Id` or `Statement`")),
            }
        }
        let Some(statements) = statements else { return root.at.refuse("a policy needs `Statement`") };
        let nodes = statements.one_or_many();
        if nodes.is_empty() {
            return statements.at.refuse("`Statement`: the list is empty");
        }
        let has_variables = version == VERSIONS[0];
        let mut sids = BTreeSet::new();
        let mut parsed = Vec::with_capacity(nodes.len());
        for node in nodes {
            let statement = Statement::parse(node, kind, has_variables)?;
            if let Some(sid) = statement.sid.clone().filter(|sid| !sid.is_empty())
                && !sids.insert(sid.clone())
            {
                return node.at.refuse(format!("`Sid`: `{sid}` is there twice"));
            }
            parsed.push(statement);
        }
        Ok(Self { statements: parsed.into(), has_variables })
    }

    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Whether `${…}` is a variable in it.
    pub fn has_variables(&self) -> bool {
        self.has_variables
    }
}

impl Statement {
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref().filter(|sid| !sid.is_empty())
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Where it begins in the document, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    fn parse(node: &Node, kind: DocumentKind, variables: bool) -> Result<Self, Invalid> {
        let (mut sid, mut effect, mut conditions_) = (None, None, None);
        let (mut principals, mut actions, mut resources) = (None, None, None);
        let mut shown_resources = Vec::new();
        for (key, at, value) in node.object("a statement")? {
            let is_not = key.starts_with("Not");
            match key.as_str() {
                "Sid" => {
                    let text = value.text("`Sid`")?;
                    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                        return value.at.refuse(format!("`Sid`: `{text}` has more than letters and digits"));
                    }
                    sid = Some(text.into());
                }
                "Effect" => {
                    effect = match value.text("`Effect`")? {
                        "Allow" => Some(Effect::Allow),
                        "Deny" => Some(Effect::Deny),
                        _ => return value.at.refuse("`Effect`: expected `Allow` or `Deny`"),
                    }
                }
                "Principal" | "NotPrincipal" => {
                    if kind == DocumentKind::Identity {
                        let message = format!("`{key}`: only a resource policy names principals");
                        return at.refuse(message);
                    }
                    let of = Principals::parse(value, key)?;
                    once(&mut principals, Selection { of, is_not }, *at, "Principal")?;
                }
                "Action" | "NotAction" => {
                    let of =
                        texts(value, key)?.into_iter().map(|(at, text)| action(text, at)).collect::<Result<_, _>>()?;
                    once(&mut actions, Selection { of, is_not }, *at, "Action")?;
                }
                "Resource" | "NotResource" => {
                    let texts = texts(value, key)?;
                    let parse = |(at, text): &(At, &str)| resource(text, *at, variables);
                    let of = texts.iter().map(parse).collect::<Result<_, _>>()?;
                    shown_resources = texts.iter().map(|(_, text)| (*text).into()).collect();
                    once(&mut resources, Selection { of, is_not }, *at, "Resource")?;
                }
                "Condition" => conditions_ = Some(conditions(value, variables)?),
                _ => return at.refuse(format!("`{key}`: expected {ELEMENTS}")),
            }
        }
        let lacks = |name: &str| Invalid {
            line: node.at.line,
            column: node.at.column,
            message: format!("the statement needs {name}"),
        };
        if kind == DocumentKind::Resource && principals.is_none() {
            return Err(lacks("`Principal`: this is a resource policy"));
        }
        let actions: Selection<Box<[Pattern]>> = actions.ok_or_else(|| lacks("`Action` or `NotAction`"))?;
        let resources: Selection<Box<[ArnPattern]>> = resources.ok_or_else(|| lacks("`Resource` or `NotResource`"))?;
        let conditions = conditions_.unwrap_or_default();
        let of_resources = resources.of.iter().flat_map(ArnPattern::required);
        let of_conditions = conditions.iter().flat_map(Condition::required);
        let required = |(key, shown): (&str, &str)| Required { key: key.into(), shown: shown.into() };
        let required: BTreeSet<Required> = of_resources.chain(of_conditions).map(required).collect();
        Ok(Self {
            sid,
            effect: effect.ok_or_else(|| lacks("`Effect`"))?,
            line: node.at.line,
            principals,
            actions,
            resources,
            required: required.into_iter().collect(),
            conditions,
            shown_resources: shown_resources.into(),
        })
    }
}

/// An element and its `Not…` form exclude each other.
fn once<T>(slot: &mut Option<T>, value: T, at: At, name: &str) -> Result<(), Invalid> {
    if slot.is_some() {
        return at.refuse(format!("`{name}` and `Not{name}` exclude each other"));
    }
    *slot = Some(value);
    Ok(())
}

fn texts<'a>(node: &'a Node, name: &str) -> Result<Vec<(At, &'a str)>, Invalid> {
    let nodes = node.one_or_many();
    if nodes.is_empty() {
        return node.at.refuse(format!("`{name}`: the list is empty"));
    }
    nodes.iter().map(|node| Ok((node.at, node.text(&format!("`{name}`"))?))).collect()
}

fn action(text: &str, at: At) -> Result<Pattern, Invalid> {
    let is_valid = text == "*"
        || text.split_once(':').is_some_and(|(service, name)| {
            let is_service = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !service.is_empty() && service.bytes().all(is_service) && !name.is_empty()
        });
    if !is_valid {
        let message = format!("`{text}`: expected `*` or `service:Action` without a wildcard in the service's name");
        return at.refuse(message);
    }
    Pattern::parse(text, Syntax { wildcards: true, variables: false }).or_else(|message| at.refuse(message))
}

fn resource(text: &str, at: At, variables: bool) -> Result<ArnPattern, Invalid> {
    match ArnPattern::parse(text, Syntax { wildcards: true, variables }) {
        Ok(pattern @ (ArnPattern::Any | ArnPattern::Parts(_))) => Ok(pattern),
        Ok(ArnPattern::None(_)) => at.refuse(format!(
            "`{text}`: expected `*` or an ARN of six parts, such as `arn:aws:kafka:REGION:ACCOUNT:topic/NAME/UUID/TOPIC`"
        )),
        Err(message) => at.refuse(message),
    }
}

impl Principals {
    fn parse(node: &Node, name: &str) -> Result<Self, Invalid> {
        let types = match &node.value {
            Value::Text(text) if text == "*" => return Ok(Self::everybody()),
            Value::Object(types) if !types.is_empty() => types,
            _ => {
                let example = "{\"AWS\": \"arn:aws:iam::123456789012:user/alice\"}";
                return node.at.refuse(format!("`{name}`: expected `\"*\"`, or an object such as `{example}`"));
            }
        };
        let mut entries = Vec::new();
        for (kind, _, names) in types {
            for (at, name) in texts(names, kind)? {
                entries.push((kind.as_str(), name, at));
            }
        }
        let mut all = Self::nobody();
        for (kind, name, at) in entries {
            all.add(kind, name).or_else(|message| at.refuse(message))?;
        }
        Ok(all)
    }
}
