//! Heartbeat (key 12), versions 0 to 4.

use std::sync::Arc;

use policies::vocabulary::ALTER_GROUP;
use wire::groups::{GroupReply, GroupRequest, MemberName};
use wire::kafka::{HeartbeatRequest, HeartbeatResponse, KafkaError};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};

pub async fn handle(caller: Arc<Caller>, request: HeartbeatRequest) -> HeartbeatResponse {
    if let Err(refusal) = caller.group(ALTER_GROUP, &request.group_id) {
        return HeartbeatResponse { throttle_ms: 0, error: kafka_code(refusal.code) };
    }
    let name = MemberName { member: request.member_id, instance: request.group_instance_id };
    let beat = GroupRequest::Heartbeat { group: request.group_id, name, generation: request.generation_id };
    let error = match ask(&caller, beat).await {
        Ok(GroupReply::Done {}) => 0,
        other => super::group_code(refused(other)),
    };
    // A heartbeat has no answer for a coordinator that loads: Java's client ends at one.
    let error =
        if error == KafkaError::CoordinatorLoadInProgress as i16 { KafkaError::NotCoordinator as i16 } else { error };
    HeartbeatResponse { throttle_ms: 0, error }
}
