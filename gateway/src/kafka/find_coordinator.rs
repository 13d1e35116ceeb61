//! FindCoordinator (key 10), versions 0 to 4: answered with an error that is not retried.
//!
//! Consumer groups and transactions are not built yet; the message says so. Readers assign partitions themselves.

use wire::kafka::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, KafkaError};

/// `key_type` of transactional ids.
const TRANSACTION: i8 = 1;

pub async fn handle(request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    // Both are final to clients; librdkafka would ask again for a transaction after any other code.
    let (error, message) = if request.key_type == TRANSACTION {
        let message = "transactions are not built yet: produce without a transactional id";
        (KafkaError::TransactionalIdAuthorizationFailed as i16, message)
    } else {
        let message = "consumer groups are not built yet: assign partitions instead of subscribing";
        (KafkaError::UnsupportedVersion as i16, message)
    };
    let coordinators = request.keys.into_iter().map(|key| Coordinator {
        key,
        error,
        error_message: Some(message.to_owned()),
        ..Coordinator::default()
    });
    FindCoordinatorResponse {
        error,
        error_message: Some(message.to_owned()),
        coordinators: coordinators.collect(),
        ..FindCoordinatorResponse::default()
    }
}
