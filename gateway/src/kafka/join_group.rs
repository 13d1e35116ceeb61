//! JoinGroup (key 11), versions 0 to 9: answered once the new generation has begun.

use std::sync::Arc;

use policies::vocabulary::ALTER_GROUP;
use wire::groups::{GroupReply, GroupRequest, JoinGroup, MemberName, NamedBytes};
use wire::kafka::{JoinGroupMember, JoinGroupRequest, JoinGroupResponse, KafkaError};

use super::Client;
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};
use crate::quota::stock::check_group;

/// From which version on a new member is told its id first (KIP-394), and a leader that nothing changed (KIP-814).
const KNOWN_ID_SINCE: i16 = 4;
const SKIP_SINCE: i16 = 9;

pub async fn handle(caller: Arc<Caller>, version: i16, client: Client, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    let nothing = || JoinGroupResponse { protocol_name: Some(String::new()), ..JoinGroupResponse::default() };
    if let Err(refusal) = caller.group(ALTER_GROUP, &request.group_id) {
        return JoinGroupResponse { error: kafka_code(refusal.code), member_id, ..nothing() };
    }
    let rebalance_timeout_ms =
        if request.rebalance_timeout_ms < 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocols = request.protocols.into_iter();
    let join = JoinGroup {
        group: request.group_id,
        name: MemberName { member: request.member_id, instance: request.group_instance_id },
        client_id: client.id,
        client_host: client.host,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type,
        protocols: protocols.map(|known| NamedBytes { name: known.name, bytes: known.metadata }).collect(),
        needs_known_id: version >= KNOWN_ID_SINCE,
        may_skip_assignment: version >= SKIP_SINCE,
    };
    let group = join.group.clone();
    if let Err(refusal) = check_group(&caller, &group).await {
        tracing::info!(group, why = refusal.message, "a group was not made");
        return JoinGroupResponse { error: super::group_code(refusal.code), member_id, ..nothing() };
    }
    let joined = ask(&caller, GroupRequest::Join { join: Box::new(join) }).await;
    // It may have waited for long.
    if let Err(refusal) = caller.group(ALTER_GROUP, &group) {
        return JoinGroupResponse { error: kafka_code(refusal.code), member_id, ..nothing() };
    }
    match joined {
        Ok(GroupReply::Joined { joined }) => {
            let members = joined.members.into_iter().map(|member| JoinGroupMember {
                member_id: member.name.member,
                group_instance_id: member.name.instance,
                metadata: member.metadata,
            });
            JoinGroupResponse {
                generation_id: joined.generation,
                protocol_type: Some(joined.protocol_type),
                protocol_name: Some(joined.protocol),
                leader: joined.leader,
                skip_assignment: joined.skip_assignment,
                member_id: joined.member,
                members: members.collect(),
                ..JoinGroupResponse::default()
            }
        }
        Ok(GroupReply::MemberId { member }) => {
            JoinGroupResponse { error: KafkaError::MemberIdRequired as i16, member_id: member, ..nothing() }
        }
        other => JoinGroupResponse { error: super::group_code(refused(other)), member_id, ..nothing() },
    }
}
