//! SyncGroup (key 14), versions 0 to 5: answered once the group's leader has said who gets what.

use std::sync::Arc;

use policies::vocabulary::ALTER_GROUP;
use types::ErrorCode;
use wire::groups::{GroupReply, GroupRequest, MemberName, NamedBytes, SyncGroup};
use wire::kafka::{KafkaError, SyncGroupRequest, SyncGroupResponse};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};

pub async fn handle(caller: Arc<Caller>, request: SyncGroupRequest) -> SyncGroupResponse {
    if let Err(refusal) = caller.group(ALTER_GROUP, &request.group_id) {
        return SyncGroupResponse { error: kafka_code(refusal.code), ..SyncGroupResponse::default() };
    }
    let assignments = request.assignments.into_iter();
    let sync = SyncGroup {
        group: request.group_id,
        name: MemberName { member: request.member_id, instance: request.group_instance_id },
        generation: request.generation_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|one| NamedBytes { name: one.member_id, bytes: one.assignment }).collect(),
    };
    let group = sync.group.clone();
    let synced = ask(&caller, GroupRequest::Sync { sync: Box::new(sync) }).await;
    // It may have waited for long.
    if let Err(refusal) = caller.group(ALTER_GROUP, &group) {
        return SyncGroupResponse { error: kafka_code(refusal.code), ..SyncGroupResponse::default() };
    }
    match synced {
        Ok(GroupReply::Synced { synced }) => SyncGroupResponse {
            protocol_type: Some(synced.protocol_type),
            protocol_name: Some(synced.protocol),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        other => refuse(refused(other)),
    }
}

/// A rebalance whose coordinator went begins anew, as at Kafka: clients join again without looking for another one.
fn refuse(code: ErrorCode) -> SyncGroupResponse {
    let error = match super::group_code(code) {
        code if code == KafkaError::CoordinatorLoadInProgress as i16 => KafkaError::RebalanceInProgress as i16,
        code => code,
    };
    SyncGroupResponse { error, ..SyncGroupResponse::default() }
}
