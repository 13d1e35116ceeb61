//! JoinGroup (key 11), Heartbeat (12), LeaveGroup (13), SyncGroup (14), DescribeGroups (15), ListGroups (16) and
//! DeleteGroups (42).

use bytes::Bytes;

use super::message;

message! {
    struct JoinGroupRequest flexible 6 {
        group_id: String [0..],
        session_timeout_ms: i32 [0..],
        /// -1: the session's.
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: String [0..],
        group_instance_id: Option<String> [5..],
        protocol_type: String [0..],
        protocols: Vec<JoinGroupProtocol> [0..],
        reason: Option<String> [8..],
    }

    struct JoinGroupProtocol {
        name: String [0..],
        metadata: Bytes [0..],
    }

    struct JoinGroupResponse flexible 6 {
        throttle_ms: i32 [2..],
        error: i16 [0..],
        generation_id: i32 [0..] = -1,
        protocol_type: Option<String> [7..],
        /// May be null from version 7 on.
        protocol_name: Option<String> [0..],
        leader: String [0..],
        skip_assignment: bool [9..],
        member_id: String [0..],
        members: Vec<JoinGroupMember> [0..],
    }

    struct JoinGroupMember {
        member_id: String [0..],
        group_instance_id: Option<String> [5..],
        metadata: Bytes [0..],
    }

    struct SyncGroupRequest flexible 4 {
        group_id: String [0..],
        generation_id: i32 [0..],
        member_id: String [0..],
        group_instance_id: Option<String> [3..],
        protocol_type: Option<String> [5..],
        protocol_name: Option<String> [5..],
        assignments: Vec<SyncGroupAssignment> [0..],
    }

    struct SyncGroupAssignment {
        member_id: String [0..],
        assignment: Bytes [0..],
    }

    struct SyncGroupResponse flexible 4 {
        throttle_ms: i32 [1..],
        error: i16 [0..],
        protocol_type: Option<String> [5..],
        protocol_name: Option<String> [5..],
        assignment: Bytes [0..],
    }

    struct HeartbeatRequest flexible 4 {
        group_id: String [0..],
        generation_id: i32 [0..],
        member_id: String [0..],
        group_instance_id: Option<String> [3..],
    }

    struct HeartbeatResponse flexible 4 {
        throttle_ms: i32 [1..],
        error: i16 [0..],
    }

    struct LeaveGroupRequest flexible 4 {
        group_id: String [0..],
        member_id: String [0..=2],
        members: Vec<LeavingMember> [3..],
    }

    struct LeavingMember {
        member_id: String [3..],
        group_instance_id: Option<String> [3..],
        reason: Option<String> [5..],
    }

    struct LeaveGroupResponse flexible 4 {
        throttle_ms: i32 [1..],
        error: i16 [0..],
        members: Vec<LeftMember> [3..],
    }

    struct LeftMember {
        member_id: String [3..],
        group_instance_id: Option<String> [3..],
        error: i16 [3..],
    }

    struct DescribeGroupsRequest flexible 5 {
        groups: Vec<String> [0..],
        include_authorized_operations: bool [3..],
    }

    struct DescribeGroupsResponse flexible 5 {
        throttle_ms: i32 [1..],
        groups: Vec<DescribedGroup> [0..],
    }

    struct DescribedGroup {
        error: i16 [0..],
        group_id: String [0..],
        group_state: String [0..],
        protocol_type: String [0..],
        protocol_data: String [0..],
        members: Vec<DescribedGroupMember> [0..],
        authorized_operations: i32 [3..] = i32::MIN,
    }

    struct DescribedGroupMember {
        member_id: String [0..],
        group_instance_id: Option<String> [4..],
        client_id: String [0..],
        client_host: String [0..],
        member_metadata: Bytes [0..],
        member_assignment: Bytes [0..],
    }

    struct ListGroupsRequest flexible 3 {
        states_filter: Vec<String> [4..],
        types_filter: Vec<String> [5..],
    }

    struct ListGroupsResponse flexible 3 {
        throttle_ms: i32 [1..],
        error: i16 [0..],
        groups: Vec<ListedGroup> [0..],
    }

    struct ListedGroup {
        group_id: String [0..],
        protocol_type: String [0..],
        group_state: String [4..],
        group_type: String [5..],
    }

    struct DeleteGroupsRequest flexible 2 {
        groups: Vec<String> [0..],
    }

    struct DeleteGroupsResponse flexible 2 {
        throttle_ms: i32 [0..],
        results: Vec<DeletedGroup> [0..],
    }

    struct DeletedGroup {
        group_id: String [0..],
        error: i16 [0..],
    }
}
