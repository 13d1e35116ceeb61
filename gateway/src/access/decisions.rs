//! What was denied, for those who ask why.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use policies::{Context, Document, Explanation, Policies, Request, explain};
use service::random;

use super::known::Standing;

/// So many are remembered.
const KEPT: usize = 10_000;

/// A call that was denied, with all that it was decided by.
#[derive(Debug)]
pub struct Denied {
    /// Of the gateway that decided, and a number at random.
    pub id: String,
    pub at_ms: i64,
    pub standing: Arc<Standing>,
    pub resource_policy: Option<Arc<Document>>,
    pub action: String,
    pub resource: String,
    pub context: Context,
}

impl Denied {
    pub fn explain(&self) -> Explanation {
        let policies = Policies {
            identity: &self.standing.identity,
            resource: self.resource_policy.as_deref(),
            boundary: self.standing.boundary.as_deref(),
            session: self.standing.session.as_deref(),
        };
        let principal = Some(&self.standing.principal);
        explain(policies, Request { principal, action: &self.action, resource: &self.resource, context: &self.context })
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<(VecDeque<String>, HashMap<String, Arc<Denied>>)>);

impl Decisions {
    pub fn note(&self, denied: Denied) -> Arc<Denied> {
        let denied = Arc::new(denied);
        let mut kept = self.0.lock().expect("no panic holds this lock");
        if kept.0.len() >= KEPT
            && let Some(oldest) = kept.0.pop_front()
        {
            kept.1.remove(&oldest);
        }
        kept.0.push_back(denied.id.clone());
        kept.1.insert(denied.id.clone(), Arc::clone(&denied));
        denied
    }

    pub fn get(&self, id: &str) -> Option<Arc<Denied>> {
        self.0.lock().expect("no panic holds this lock").1.get(id).cloned()
    }
}

/// A name for a decision of this gateway.
pub fn new_id(gateway: i32) -> String {
    format!("{gateway}-{:016x}", random::wide() as u64)
}
