//! Whether a call is allowed: explicit deny, then allow, else deny.

use std::sync::Arc;

use crate::arn::Arn;
use crate::context::Context;
use crate::document::{Document, Effect, Selection, Statement};
use crate::pattern::{Case, Pattern};
use crate::principal::{Naming, Principal, Principals};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `None`: whoever it is was not told; only what is for everybody names it.
    pub principal: Option<&'a Principal>,
    /// `service:Action`; case does not matter.
    pub action: &'a str,
    /// An ARN; wildcards in it are ordinary characters. `*` for actions that are about no resource.
    pub resource: &'a str,
    pub context: &'a Context,
}

/// What is decided by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// Of the user or role.
    pub identity: &'a [Arc<Document>],
    /// Of the cluster.
    pub resource: Option<&'a Document>,
    /// What the user or role can have at most.
    pub boundary: Option<&'a Document>,
    /// What a session of the role can have at most.
    pub session: Option<&'a Document>,
}

/// Where a document belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    Identity,
    Resource,
    Boundary,
    Session,
}

impl Layer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity policy",
            Self::Resource => "resource policy",
            Self::Boundary => "permission boundary",
            Self::Session => "session policy",
        }
    }
}

/// A statement: of the document of this number in its layer, the statement of this number; both from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub layer: Layer,
    pub document: usize,
    pub statement: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Allowed,
    ExplicitDeny,
    ImplicitDeny,
}

impl Outcome {
    /// As IAM's simulator names it (`PolicyEvaluationDecisionType`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitDeny => "explicitDeny",
            Self::ImplicitDeny => "implicitDeny",
        }
    }
}

/// What was decided, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub outcome: Outcome,
    /// The statement that denied, or one that allowed; none for an implicit deny.
    pub by: Option<Place>,
    /// The layer that did not allow it, for an implicit deny.
    pub lacking: Option<Layer>,
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}

/// Why a statement does not apply; numbers are of the statement's conditions and required keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Action,
    Resource,
    Principal,
    Variable(usize),
    Condition(usize),
}

impl<'a> Policies<'a> {
    /// All documents with their layer and number.
    pub(crate) fn all(self) -> impl Iterator<Item = (Layer, usize, &'a Document)> {
        let identity =
            self.identity.iter().enumerate().map(|(number, document)| (Layer::Identity, number, &**document));
        let one = |layer, document: Option<&'a Document>| document.map(|document| (layer, 0, document)).into_iter();
        identity
            .chain(one(Layer::Resource, self.resource))
            .chain(one(Layer::Boundary, self.boundary))
            .chain(one(Layer::Session, self.session))
    }
}

/// What allows, as far as was looked.
#[derive(Debug, Default)]
struct Allows {
    identity: Option<Place>,
    resource: Option<(Naming, Place)>,
    boundary: Option<Place>,
    session: Option<Place>,
}

/// Decides; never panics. Allocates only where binary values are compared.
pub fn decide(policies: Policies<'_>, request: Request<'_>) -> Decision {
    let arn = Arn::parse(request.resource);
    let mut allows = Allows::default();
    for (layer, document, policy) in policies.all() {
        for (statement, found) in policy.statements().iter().enumerate() {
            if found.effect == Effect::Allow && allows.has(layer) {
                continue;
            }
            let Ok(naming) = found.fit(request, arn.as_ref()) else { continue };
            let place = Place { layer, document, statement };
            match found.effect {
                Effect::Deny => {
                    return Decision { outcome: Outcome::ExplicitDeny, by: Some(place), lacking: None };
                }
                Effect::Allow => allows.note(layer, naming, place),
            }
        }
    }
    // What belongs to no account is everybody's own; what is no ARN is nobody's.
    let is_same_account = match (arn, request.principal) {
        (Some(arn), Some(principal)) => arn.account.is_empty() || arn.account == principal.account(),
        (Some(_), None) => true,
        (None, _) => request.resource == "*",
    };
    match allows.verdict(policies, is_same_account) {
        Ok(by) => Decision { outcome: Outcome::Allowed, by: Some(by), lacking: None },
        Err(layer) => Decision { outcome: Outcome::ImplicitDeny, by: None, lacking: Some(layer) },
    }
}

impl Allows {
    /// Another statement of the layer would change nothing.
    fn has(&self, layer: Layer) -> bool {
        match layer {
            Layer::Identity => self.identity.is_some(),
            Layer::Resource => matches!(self.resource, Some((Naming::Direct, _))),
            Layer::Boundary => self.boundary.is_some(),
            Layer::Session => self.session.is_some(),
        }
    }

    fn note(&mut self, layer: Layer, naming: Naming, place: Place) {
        match layer {
            Layer::Identity => self.identity = self.identity.or(Some(place)),
            Layer::Resource if self.resource.is_none_or(|(known, _)| known < naming) => {
                self.resource = Some((naming, place));
            }
            Layer::Resource => {}
            Layer::Boundary => self.boundary = self.boundary.or(Some(place)),
            Layer::Session => self.session = self.session.or(Some(place)),
        }
    }

    /// The statement that allows, or the layer that does not.
    fn verdict(&self, policies: Policies<'_>, is_same_account: bool) -> Result<Place, Layer> {
        if is_same_account && let Some((Naming::Direct, place)) = self.resource {
            return Ok(place);
        }
        let by_role = self.resource.filter(|(naming, _)| is_same_account && *naming == Naming::Role);
        let by = self.identity.or(by_role.map(|(_, place)| place)).ok_or(Layer::Identity)?;
        if policies.boundary.is_some() && self.boundary.is_none() {
            return Err(Layer::Boundary);
        }
        if policies.session.is_some() && self.session.is_none() {
            return Err(Layer::Session);
        }
        if !is_same_account && self.resource.is_none() {
            return Err(Layer::Resource);
        }
        Ok(by)
    }
}

impl Statement {
    /// How it names the caller if it applies, or the first element that does not match.
    pub(crate) fn fit(&self, request: Request<'_>, arn: Option<&Arn<'_>>) -> Result<Naming, Mismatch> {
        let matches = |action: &Pattern| action.matches(request.action, Case::Ignored, request.context);
        if self.actions.of.iter().any(matches) == self.actions.is_not {
            return Err(Mismatch::Action);
        }
        // Before resources: a variable without a value is no mismatch that `NotResource` could turn round.
        if let Some(lacking) = self.required.iter().position(|required| request.context.single(&required.key).is_none())
        {
            return Err(Mismatch::Variable(lacking));
        }
        if self.resources.of.iter().any(|resource| resource.matches(arn, request.context)) == self.resources.is_not {
            return Err(Mismatch::Resource);
        }
        let naming = match &self.principals {
            None => Naming::Direct,
            Some(principals) => principals.naming_for(self.effect, request.principal).ok_or(Mismatch::Principal)?,
        };
        match self.conditions.iter().position(|condition| !condition.holds(request.context)) {
            Some(failed) => Err(Mismatch::Condition(failed)),
            None => Ok(naming),
        }
    }
}

impl Selection<Principals> {
    /// `NotPrincipal` denies whoever is not named by all that it is known by, and allows whoever is not named at all.
    fn naming_for(&self, effect: Effect, principal: Option<&Principal>) -> Option<Naming> {
        match (self.is_not, effect) {
            (false, _) => self.of.naming(principal),
            (true, Effect::Deny) => (!self.of.names_all_of(principal)).then_some(Naming::Direct),
            (true, Effect::Allow) => self.of.naming(principal).is_none().then_some(Naming::Direct),
        }
    }
}
