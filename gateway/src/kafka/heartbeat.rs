//! Heartbeat (key 12), versions 0 to 4.

use std::sync::Arc;

use wire::groups::{GroupReply, GroupRequest, MemberName};
use wire::kafka::{HeartbeatRequest, HeartbeatResponse, KafkaError};

use crate::Gateway;
use crate::groups::{ask, refused};

pub async fn handle(gateway: Arc<Gateway>, request: HeartbeatRequest) -> HeartbeatResponse {
    let name = MemberName { member: request.member_id, instance: request.group_instance_id };
    let beat = GroupRequest::Heartbeat { group: request.group_id, name, generation: request.generation_id };
    let error = match ask(&gateway, beat).await {
        Ok(GroupReply::Done {}) => 0,
        other => super::group_code(refused(other)),
    };
    // A heartbeat has no answer for a coordinator that loads: Java's client ends at one.
    let error =
        if error == KafkaError::CoordinatorLoadInProgress as i16 { KafkaError::NotCoordinator as i16 } else { error };
    HeartbeatResponse { throttle_ms: 0, error }
}
