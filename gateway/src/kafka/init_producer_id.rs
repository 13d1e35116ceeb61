//! InitProducerId (key 22), versions 0 to 4: ids for idempotent producers.
//!
//! A producer that asks again gets a new id: that is a new session to it (KIP-360), and nothing it wrote before
//! is affected. Transactional ids are refused until transactions are built.

use std::sync::Arc;

use policies::vocabulary::WRITE_DATA_IDEMPOTENTLY;
use wire::kafka::{InitProducerIdRequest, InitProducerIdResponse, KafkaError};

use crate::caller::Caller;
use crate::error::kafka_code;

pub async fn handle(caller: Arc<Caller>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        let error = KafkaError::TransactionalIdAuthorizationFailed as i16;
        return InitProducerIdResponse { error, ..InitProducerIdResponse::default() };
    }
    if let Err(refusal) = caller.cluster(WRITE_DATA_IDEMPOTENTLY) {
        return InitProducerIdResponse { error: kafka_code(refusal.code), ..InitProducerIdResponse::default() };
    }
    match caller.gateway.producer_id().await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, ..InitProducerIdResponse::default() },
        Err(error) => InitProducerIdResponse { error: kafka_code(error.code), ..InitProducerIdResponse::default() },
    }
}
