//! FindCoordinator (key 10), versions 0 to 4: the gateway that is shown as a group's coordinator.
//!
//! Any gateway would serve the group all the same; that all name one keeps a group's lag and listing in one place, as
//! tools expect. Transactions are not built yet, and a transactional producer is told so in words that it shows its user.

use std::sync::Arc;

use policies::vocabulary::DESCRIBE_GROUP;
use wire::kafka::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, KafkaError};

use super::Client;
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::map::shown_coordinator;

/// `key_type` of groups; of transactional ids it is 1.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub async fn handle(
    caller: Arc<Caller>,
    version: i16,
    client: Client,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let find = |key: String| find(&caller, &client, request.key_type, key);
    if version >= 4 {
        let coordinators = request.keys.into_iter().map(find).collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let Coordinator { node_id, host, port, error, error_message, .. } = find(request.key);
    FindCoordinatorResponse { error, error_message, node_id, host, port, ..FindCoordinatorResponse::default() }
}

fn find(caller: &Caller, client: &Client, key_type: i8, key: String) -> Coordinator {
    let refuse = |error: KafkaError, message: &str| Coordinator {
        key: key.clone(),
        error: error as i16,
        error_message: Some(message.to_owned()),
        ..Coordinator::default()
    };
    match key_type {
        GROUP => {}
        // Final to clients: librdkafka would ask again after any other code.
        TRANSACTION => {
            let message = "transactions are not built yet: produce without a transactional id";
            return refuse(KafkaError::TransactionalIdAuthorizationFailed, message);
        }
        _ => return refuse(KafkaError::InvalidRequest, "coordinators are of groups or of transactions"),
    }
    if key.is_empty() {
        return refuse(KafkaError::InvalidGroupId, "a group has a name");
    }
    if let Err(refusal) = caller.group(DESCRIBE_GROUP, &key) {
        return Coordinator {
            key,
            error: kafka_code(refusal.code),
            error_message: Some(refusal.message),
            ..Coordinator::default()
        };
    }
    let gateways = caller.gateways(client.is_tls);
    let shown = shown_coordinator(&gateways, &key);
    match gateways.iter().find(|known| Some(known.id) == shown) {
        Some(known) => Coordinator {
            key,
            node_id: known.id,
            host: known.host.clone(),
            port: i32::from(known.port),
            ..Coordinator::default()
        },
        None => refuse(KafkaError::CoordinatorNotAvailable, "no gateway is registered yet"),
    }
}
