//! What one caller may do: decided by its policies and those of the cluster, as they are now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use policies::{Context, Policies, Request, decide};
use service::clock;

use super::audit::{Event, Outcome};
use super::decisions::{Denied, new_id};
use super::known::{Cluster, Known, Login, Standing};
use super::{Access, Origin};
use crate::tenant::Tenant;

/// A decision is taken for so long, in ms: conditions may ask for the time.
const CACHED_MS: u64 = 1_000;
/// Decisions that are kept of one caller.
const CACHE_MAX: usize = 1_024;
/// Decisions of one caller that are noted within that time: a request may name very many things.
const NOTED_MAX: usize = 500;
/// An ARN has at most so many bytes: nothing that is called more has a name that anybody gave it.
const RESOURCE_BYTES_MAX: usize = 2_048;
/// So many characters of what a client calls itself are told to policies.
const USER_AGENT_MAX: usize = 256;

/// See the module's text.
#[derive(Debug)]
pub struct Permit {
    pub login: Login,
    /// Its own account and the cluster that it speaks to.
    tenant: Tenant,
    gateway: i32,
    source: IpAddr,
    context: Context,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What identities it was read from.
    known: Arc<Known>,
    /// `None`: it may do nothing any more.
    basis: Option<Basis>,
    /// By action and resource.
    cache: HashMap<(&'static str, String), Verdict>,
    cached_since_ms: u64,
    /// Decisions that were noted since.
    noted: usize,
}

#[derive(Debug, Clone)]
enum Verdict {
    Allowed,
    /// Noted, if somebody is to be told of it.
    Denied(Option<Arc<Denied>>),
}

#[derive(Debug, Clone)]
struct Basis {
    standing: Arc<Standing>,
    /// None for who speaks to none.
    cluster: Option<Arc<Cluster>>,
}

/// Why a call does not come about.
#[derive(Debug, Clone)]
pub enum Refusal {
    Denied(Arc<Denied>),
    /// It was not asked for by name.
    Unseen,
    /// Whoever called is nobody any more.
    Gone,
}

impl Basis {
    fn read(known: &Known, login: &Login, tenant: Tenant) -> Option<Self> {
        let standing = Arc::new(known.standing(login, clock::wall_ms())?);
        if !tenant.has_cluster() {
            return Some(Self { standing, cluster: None });
        }
        let cluster = Arc::clone(known.cluster_of(tenant)?);
        cluster.policy.is_ok().then_some(Self { standing, cluster: Some(cluster) })
    }
}

impl Permit {
    /// `None` if this login is worth nothing.
    pub fn new(access: &Access, gateway: i32, login: Login, tenant: Tenant, origin: Origin) -> Option<Self> {
        let known = access.known();
        let basis = Basis::read(&known, &login, tenant)?;
        let mut context = Context::new();
        for (key, value) in basis.standing.principal.keys() {
            context.add(key, value);
        }
        context.add("aws:SourceIp", origin.address.to_canonical().to_string());
        context.add("aws:SecureTransport", origin.is_tls.to_string());
        if let Some(user_agent) = &login.user_agent {
            context.add("aws:UserAgent", user_agent.chars().take(USER_AGENT_MAX).collect::<String>());
        }
        let state = State { known, basis: Some(basis), cache: HashMap::new(), cached_since_ms: 0, noted: 0 };
        let source = origin.address;
        Some(Self { login, tenant, gateway, source, context, state: Mutex::new(state) })
    }

    fn has_expired(&self) -> bool {
        self.login.expires_ms.is_some_and(|expires_ms| expires_ms <= clock::wall_ms())
    }

    /// The state, of the newest identities.
    fn refreshed(&self, access: &Access) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no panic holds this lock");
        let known = access.known();
        if !Arc::ptr_eq(&known, &state.known) {
            state.basis = Basis::read(&known, &self.login, self.tenant);
            state.known = known;
            state.cache.clear();
        }
        state
    }

    /// Whether the caller may. Of what it only does not see nobody is told: `is_quiet`.
    ///
    /// # Errors
    /// It may not: that is noted under an id, unless it is quiet.
    pub fn check(
        &self,
        access: &Access,
        action: &'static str,
        resource: String,
        is_quiet: bool,
    ) -> Result<(), Refusal> {
        // What is decided is kept, here and among the denials.
        if resource.len() > RESOURCE_BYTES_MAX {
            return Err(Refusal::Unseen);
        }
        let now_ms = clock::monotonic_ms();
        let mut state = self.refreshed(access);
        if self.has_expired() {
            return Err(Refusal::Gone);
        }
        let Some(Basis { standing, cluster }) = state.basis.clone() else { return Err(Refusal::Gone) };
        let is_over = now_ms.saturating_sub(state.cached_since_ms) > CACHED_MS;
        if is_over || state.cache.len() >= CACHE_MAX {
            state.cache.clear();
        }
        if is_over {
            (state.cached_since_ms, state.noted) = (now_ms, 0);
        }
        let key = (action, resource);
        let verdict = match state.cache.get(&key) {
            Some(Verdict::Denied(None)) if !is_quiet => None,
            known => known.cloned(),
        };
        let verdict = verdict.unwrap_or_else(|| {
            let denied = self.decide(&standing, cluster.as_deref(), action, &key.1);
            let is_noted = !is_quiet && state.noted < NOTED_MAX;
            state.noted += usize::from(is_noted);
            if !is_quiet && !is_noted {
                access.audit.count_dropped(1);
            }
            let verdict = match denied {
                None => Verdict::Allowed,
                Some(_) if !is_noted => Verdict::Denied(None),
                Some(denied) => Verdict::Denied(Some(note(access, denied))),
            };
            if is_noted && access.audit.is_on() {
                let is_reserved = cluster.as_ref().is_some_and(|cluster| cluster.record.is_reserved());
                // Whoever reads would read of it for ever; who may not is told of.
                let is_of_audit = is_reserved && matches!(verdict, Verdict::Allowed);
                self.audit(access, action, &key.1, &verdict, is_of_audit);
            }
            state.cache.insert(key, verdict.clone());
            verdict
        });
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(Some(denied)) => Err(Refusal::Denied(denied)),
            Verdict::Denied(None) => Err(Refusal::Unseen),
        }
    }

    /// Notes what is refused whatever policies say.
    pub fn audit_refused(&self, access: &Access, action: &'static str, resource: &str) {
        if access.audit.is_on() {
            self.audit(access, action, resource, &Verdict::Denied(None), false);
        }
    }

    fn audit(&self, access: &Access, action: &'static str, resource: &str, verdict: &Verdict, is_of_audit: bool) {
        let outcome = match verdict {
            Verdict::Allowed => Outcome::Allowed,
            Verdict::Denied(denied) => {
                Outcome::Denied(denied.as_ref().map(|denied| denied.id.clone()).unwrap_or_default())
            }
        };
        access.audit.note(Event {
            at_ms: clock::wall_ms(),
            source: self.source,
            account: Some(self.login.account),
            // Who came in by its policy is its owner's to know; who did not may have asked for anything.
            owner: matches!(verdict, Verdict::Allowed).then_some(self.tenant.account),
            is_of_audit,
            principal: Some(self.login.arn()),
            access_key: self.login.key.clone(),
            action,
            resource: Some(resource.to_owned()),
            outcome,
        });
    }

    fn decide(
        &self,
        standing: &Arc<Standing>,
        cluster: Option<&Cluster>,
        action: &str,
        resource: &str,
    ) -> Option<Denied> {
        let at_ms = clock::wall_ms();
        let mut context = self.context.clone();
        context.add("aws:EpochTime", (at_ms / 1_000).to_string());
        context.add("aws:CurrentTime", rfc3339(at_ms));
        for (key, value) in &standing.tags {
            context.add(&format!("aws:PrincipalTag/{key}"), value.as_str());
        }
        // What is not of a cluster has no resource policy.
        let resource_policy = cluster.and_then(|cluster| cluster.policy.clone().ok().flatten());
        let resource_policy = resource_policy.filter(|_| action.starts_with("kafka-cluster:"));
        let policies = Policies {
            identity: &standing.identity,
            resource: resource_policy.as_deref(),
            boundary: standing.boundary.as_deref(),
            session: standing.session.as_deref(),
        };
        let request = Request { principal: Some(&standing.principal), action, resource, context: &context };
        if decide(policies, request).is_allowed() {
            return None;
        }
        let (id, standing) = (new_id(self.gateway), Arc::clone(standing));
        let (action, resource) = (action.to_owned(), resource.to_owned());
        Some(Denied { id, at_ms, standing, resource_policy, action, resource, context })
    }
}

fn note(access: &Access, denied: Denied) -> Arc<Denied> {
    let Denied { id, action, resource, .. } = &denied;
    tracing::info!(decision = id, principal = denied.standing.principal.arn(), action, resource, "denied");
    access.decisions.note(denied)
}

fn rfc3339(at_ms: i64) -> String {
    jiff::Timestamp::from_second(at_ms / 1_000).map(|at| at.to_string()).unwrap_or_default()
}
