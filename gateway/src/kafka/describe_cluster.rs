//! DescribeCluster (key 60), versions 0 to 2: the gateways are the brokers.

use std::sync::Arc;

use wire::kafka::{DescribeClusterRequest, DescribeClusterResponse, DescribedBroker, KafkaError};

use super::Client;
use crate::caller::Caller;

/// `endpoint_type`: brokers; controllers (2) have no listener of their own here.
const BROKERS: i8 = 1;

pub async fn handle(caller: Arc<Caller>, client: Client, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error: KafkaError::InvalidRequest as i16,
            error_message: Some("only brokers (1) are listed".to_owned()),
            endpoint_type: request.endpoint_type,
            ..DescribeClusterResponse::default()
        };
    }
    let gateways = caller.gateways(client.is_tls);
    let brokers = gateways.iter().map(|known| DescribedBroker {
        id: known.id,
        host: known.host.clone(),
        port: i32::from(known.port),
        rack: known.az.clone(),
        is_fenced: false,
    });
    DescribeClusterResponse {
        cluster_id: caller.tenant.cluster.to_string(),
        controller_id: gateways.first().map_or(caller.gateway.id, |first| first.id),
        brokers: brokers.collect(),
        ..DescribeClusterResponse::default()
    }
}
