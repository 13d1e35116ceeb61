//! Every Kafka call in every version, on what is one's own, another tenant's, deleted, or was never there; and which action
//! each call needs.

use bytes::Bytes;
use serde_json::{Value, json};
use tests::Scratch;
use tests::guarded::{Guarded, Key, REGION, app_policy, output_text};
use tests::session::Session;
use types::TopicId;
use wire::compression::Codec;
use wire::kafka::*;
use wire::records::{BatchBuilder, NewRecord};

const OURS: &str = "111111111111";
const THEIRS: &str = "222222222222";

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(b"v"), timestamp: 1_700_000_000_000, headers: &[] });
    builder.finish(Codec::None).expect("a batch").to_bytes()
}

/// Versions that are served of a call.
fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let offered = Offered::of(key as i16).expect("an offered API");
    offered.accepted..=offered.max
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Topic,
    Group,
    Cluster,
}

/// A call on one thing of this name (and id, of topics), answered as text.
struct Call {
    key: ApiKey,
    about: About,
    /// Actions of `kafka-cluster:` that it needs beside `Connect`; each of them.
    needs: &'static [&'static str],
    ask: fn(&mut Session, i16, &str, TopicId) -> String,
}

const CALLS: &[Call] = &[
    Call {
        key: ApiKey::Produce,
        about: About::Topic,
        needs: &["WriteData"],
        ask: |session, version, name, _| {
            let partitions = vec![ProducePartition { index: 0, records: Some(batch()) }];
            let topics = vec![ProduceTopic { name: name.to_owned(), partitions }];
            let request = ProduceRequest { acks: -1, timeout_ms: 5_000, topics, ..Default::default() };
            session.tell::<_, ProduceResponse>(ApiKey::Produce, version, &request)
        },
    },
    Call {
        key: ApiKey::Fetch,
        about: About::Topic,
        needs: &["ReadData"],
        ask: |session, version, name, _| {
            let partitions = vec![FetchPartition { max_bytes: 1_000_000, ..Default::default() }];
            let topics = vec![FetchTopic { name: name.to_owned(), partitions }];
            let request = FetchRequest { topics, ..Default::default() };
            session.tell::<_, FetchResponse>(ApiKey::Fetch, version, &request)
        },
    },
    Call {
        key: ApiKey::ListOffsets,
        about: About::Topic,
        needs: &["DescribeTopic"],
        ask: |session, version, name, _| {
            let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: name.to_owned(), partitions }];
            let request = ListOffsetsRequest { topics, ..Default::default() };
            session.tell::<_, ListOffsetsResponse>(ApiKey::ListOffsets, version, &request)
        },
    },
    Call {
        key: ApiKey::Metadata,
        about: About::Topic,
        needs: &["DescribeTopic"],
        ask: |session, version, name, id| {
            let by_id = version >= 10 && id != TopicId::default();
            let (topic_id, name) = if by_id { (id, None) } else { (TopicId::default(), Some(name.to_owned())) };
            let topics = Some(vec![MetadataRequestTopic { topic_id, name: NullableSince10(name) }]);
            // Below version 4 it cannot be asked without making one.
            if version < 4 {
                return String::new();
            }
            let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
            session.tell::<_, MetadataResponse>(ApiKey::Metadata, version, &request)
        },
    },
    Call {
        key: ApiKey::OffsetForLeaderEpoch,
        about: About::Topic,
        needs: &["DescribeTopic"],
        ask: |session, version, name, _| {
            let partitions = vec![EpochPartition { leader_epoch: 1, ..Default::default() }];
            let topics = vec![EpochTopic { name: name.to_owned(), partitions }];
            let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
            session.tell::<_, OffsetForLeaderEpochResponse>(ApiKey::OffsetForLeaderEpoch, version, &request)
        },
    },
    Call {
        key: ApiKey::DescribeTopicPartitions,
        about: About::Topic,
        needs: &["DescribeTopic"],
        ask: |session, version, name, _| {
            let topics = vec![DescribedTopicName { name: name.to_owned() }];
            let request = DescribeTopicPartitionsRequest { topics, ..Default::default() };
            session.tell::<_, DescribeTopicPartitionsResponse>(ApiKey::DescribeTopicPartitions, version, &request)
        },
    },
    Call {
        key: ApiKey::DescribeProducers,
        about: About::Topic,
        needs: &["ReadData"],
        ask: |session, version, name, _| {
            let topics = vec![DescribeProducersTopic { name: name.to_owned(), partitions: vec![0] }];
            let request = DescribeProducersRequest { topics };
            session.tell::<_, DescribeProducersResponse>(ApiKey::DescribeProducers, version, &request)
        },
    },
    Call {
        key: ApiKey::DescribeConfigs,
        about: About::Topic,
        needs: &["DescribeTopicDynamicConfiguration"],
        ask: |session, version, name, _| {
            let resource_name = name.to_owned();
            let resources = vec![DescribeConfigsResource { resource_type: 2, resource_name, keys: None }];
            let request = DescribeConfigsRequest { resources, ..Default::default() };
            session.tell::<_, DescribeConfigsResponse>(ApiKey::DescribeConfigs, version, &request)
        },
    },
    Call {
        key: ApiKey::AlterConfigs,
        about: About::Topic,
        needs: &["AlterTopicDynamicConfiguration"],
        ask: |session, version, name, _| {
            let (resource_name, configs) = (name.to_owned(), Vec::new());
            let resources = vec![AlterConfigsResource { resource_type: 2, resource_name, configs }];
            let request = AlterConfigsRequest { resources, validate_only: true };
            session.tell::<_, AlterConfigsResponse>(ApiKey::AlterConfigs, version, &request)
        },
    },
    Call {
        key: ApiKey::IncrementalAlterConfigs,
        about: About::Topic,
        needs: &["AlterTopicDynamicConfiguration"],
        ask: |session, version, name, _| {
            let (resource_name, configs) = (name.to_owned(), Vec::new());
            let resources = vec![IncrementalResource { resource_type: 2, resource_name, configs }];
            let request = IncrementalAlterConfigsRequest { resources, validate_only: true };
            session.tell::<_, IncrementalAlterConfigsResponse>(ApiKey::IncrementalAlterConfigs, version, &request)
        },
    },
    Call {
        key: ApiKey::CreatePartitions,
        about: About::Topic,
        needs: &["AlterTopic"],
        ask: |session, version, name, _| {
            let topics = vec![CreatePartitionsTopic { name: name.to_owned(), count: 9, assignments: None }];
            let request = CreatePartitionsRequest { topics, timeout_ms: 5_000, validate_only: true };
            session.tell::<_, CreatePartitionsResponse>(ApiKey::CreatePartitions, version, &request)
        },
    },
    Call {
        key: ApiKey::CreateTopics,
        about: About::Topic,
        needs: &["CreateTopic"],
        ask: |session, version, name, _| {
            let topics = vec![CreatableTopic { name: name.to_owned(), ..Default::default() }];
            let request = CreateTopicsRequest { topics, timeout_ms: 5_000, validate_only: true };
            let answer: Option<CreateTopicsResponse> = session.call(ApiKey::CreateTopics, version, &request);
            let mut answer = answer.expect("an answer");
            // Of a dry run: it names nothing.
            answer.topics[0].topic_id = TopicId::default();
            format!("{answer:?}")
        },
    },
    Call {
        key: ApiKey::DeleteRecords,
        about: About::Topic,
        needs: &["DeleteTopic"],
        ask: |session, version, name, _| {
            let partitions = vec![DeleteRecordsPartition { index: 0, offset: 0 }];
            let topics = vec![DeleteRecordsTopic { name: name.to_owned(), partitions }];
            let request = DeleteRecordsRequest { topics, timeout_ms: 5_000 };
            session.tell::<_, DeleteRecordsResponse>(ApiKey::DeleteRecords, version, &request)
        },
    },
    Call {
        key: ApiKey::OffsetCommit,
        about: About::Topic,
        needs: &["ReadData", "AlterGroup"],
        ask: |session, version, name, _| {
            let partitions = vec![OffsetCommitPartition { offset: 1, ..Default::default() }];
            let topics = vec![OffsetCommitTopic { name: name.to_owned(), partitions }];
            let request = OffsetCommitRequest { group_id: "app-writes".to_owned(), topics, ..Default::default() };
            session.tell::<_, OffsetCommitResponse>(ApiKey::OffsetCommit, version, &request)
        },
    },
    Call {
        key: ApiKey::OffsetFetch,
        about: About::Group,
        needs: &["DescribeGroup"],
        ask: |session, version, name, _| {
            let groups = vec![OffsetFetchGroup { group_id: name.to_owned(), topics: None, ..Default::default() }];
            // Below version 2 topics are named.
            let topics = (version < 2).then(Vec::new);
            let request = OffsetFetchRequest { group_id: name.to_owned(), topics, groups, ..Default::default() };
            session.tell::<_, OffsetFetchResponse>(ApiKey::OffsetFetch, version, &request)
        },
    },
    Call {
        key: ApiKey::FindCoordinator,
        about: About::Group,
        needs: &["DescribeGroup"],
        ask: |session, version, name, _| {
            let request = FindCoordinatorRequest { key: name.to_owned(), key_type: 0, keys: vec![name.to_owned()] };
            let text = session.tell::<_, FindCoordinatorResponse>(ApiKey::FindCoordinator, version, &request);
            // Which gateway it is says the name alone, and these differ.
            if is_denied(&text) { text } else { "found".to_owned() }
        },
    },
    Call {
        key: ApiKey::DescribeGroups,
        about: About::Group,
        needs: &["DescribeGroup"],
        ask: |session, version, name, _| {
            let request = DescribeGroupsRequest { groups: vec![name.to_owned()], ..Default::default() };
            session.tell::<_, DescribeGroupsResponse>(ApiKey::DescribeGroups, version, &request)
        },
    },
    Call {
        key: ApiKey::JoinGroup,
        about: About::Group,
        needs: &["AlterGroup"],
        ask: |session, version, name, _| {
            // Of no length that a session may have: nobody joins.
            let request = JoinGroupRequest { group_id: name.to_owned(), session_timeout_ms: 1, ..Default::default() };
            session.tell::<_, JoinGroupResponse>(ApiKey::JoinGroup, version, &request)
        },
    },
    Call {
        key: ApiKey::SyncGroup,
        about: About::Group,
        needs: &["AlterGroup"],
        ask: |session, version, name, _| {
            let (group_id, member_id) = (name.to_owned(), "nobody".to_owned());
            let request = SyncGroupRequest { group_id, member_id, ..Default::default() };
            session.tell::<_, SyncGroupResponse>(ApiKey::SyncGroup, version, &request)
        },
    },
    Call {
        key: ApiKey::Heartbeat,
        about: About::Group,
        needs: &["AlterGroup"],
        ask: |session, version, name, _| {
            let (group_id, member_id) = (name.to_owned(), "nobody".to_owned());
            let request = HeartbeatRequest { group_id, member_id, ..Default::default() };
            session.tell::<_, HeartbeatResponse>(ApiKey::Heartbeat, version, &request)
        },
    },
    Call {
        key: ApiKey::LeaveGroup,
        about: About::Group,
        needs: &["AlterGroup"],
        ask: |session, version, name, _| {
            let (group_id, member_id) = (name.to_owned(), "nobody".to_owned());
            let members = vec![LeavingMember { member_id: member_id.clone(), ..Default::default() }];
            let request = LeaveGroupRequest { group_id, member_id, members };
            session.tell::<_, LeaveGroupResponse>(ApiKey::LeaveGroup, version, &request)
        },
    },
    Call {
        key: ApiKey::OffsetDelete,
        about: About::Group,
        needs: &["DeleteGroup"],
        ask: |session, version, name, _| {
            let request = OffsetDeleteRequest { group_id: name.to_owned(), topics: Vec::new() };
            session.tell::<_, OffsetDeleteResponse>(ApiKey::OffsetDelete, version, &request)
        },
    },
    Call {
        key: ApiKey::InitProducerId,
        about: About::Cluster,
        needs: &["WriteDataIdempotently"],
        ask: |session, version, _, _| {
            let request = InitProducerIdRequest { transaction_timeout_ms: 1_000, ..Default::default() };
            session.tell::<_, InitProducerIdResponse>(ApiKey::InitProducerId, version, &request)
        },
    },
    Call {
        key: ApiKey::DescribeCluster,
        about: About::Cluster,
        needs: &["DescribeCluster"],
        ask: |session, version, _, _| {
            session.tell::<_, DescribeClusterResponse>(
                ApiKey::DescribeCluster,
                version,
                &DescribeClusterRequest::default(),
            )
        },
    },
    Call {
        key: ApiKey::CreateAcls,
        about: About::Cluster,
        needs: &["AlterCluster"],
        ask: |session, version, _, _| {
            session.tell::<_, CreateAclsResponse>(ApiKey::CreateAcls, version, &CreateAclsRequest::default())
        },
    },
    Call {
        key: ApiKey::DeleteAcls,
        about: About::Cluster,
        needs: &["AlterCluster"],
        ask: |session, version, _, _| {
            session.tell::<_, DeleteAclsResponse>(ApiKey::DeleteAcls, version, &DeleteAclsRequest::default())
        },
    },
    Call {
        key: ApiKey::DescribeClientQuotas,
        about: About::Cluster,
        needs: &["DescribeClusterDynamicConfiguration"],
        ask: |session, version, _, _| {
            let request = DescribeClientQuotasRequest::default();
            session.tell::<_, DescribeClientQuotasResponse>(ApiKey::DescribeClientQuotas, version, &request)
        },
    },
    Call {
        key: ApiKey::ListPartitionReassignments,
        about: About::Cluster,
        needs: &["DescribeCluster"],
        ask: |session, version, _, _| {
            let request = ListPartitionReassignmentsRequest::default();
            session.tell::<_, ListPartitionReassignmentsResponse>(ApiKey::ListPartitionReassignments, version, &request)
        },
    },
    // Last: they take away what the others look at.
    Call {
        key: ApiKey::DeleteGroups,
        about: About::Group,
        needs: &["DeleteGroup"],
        ask: |session, version, name, _| {
            let request = DeleteGroupsRequest { groups: vec![name.to_owned()] };
            session.tell::<_, DeleteGroupsResponse>(ApiKey::DeleteGroups, version, &request)
        },
    },
    Call {
        key: ApiKey::DeleteTopics,
        about: About::Topic,
        needs: &["DeleteTopic"],
        ask: |session, version, name, id| {
            let by_id = version >= 6 && id != TopicId::default();
            let topics = vec![match by_id {
                true => DeleteTopicState { name: None, topic_id: id },
                false => DeleteTopicState { name: Some(name.to_owned()), topic_id: TopicId::default() },
            }];
            let request = DeleteTopicsRequest { topics, names: vec![name.to_owned()], timeout_ms: 5_000 };
            session.tell::<_, DeleteTopicsResponse>(ApiKey::DeleteTopics, version, &request)
        },
    },
];

/// Denied: of a topic, a group, the cluster.
fn is_denied(text: &str) -> bool {
    ["error: 29", "error: 30", "error: 31"].iter().any(|code| text.contains(code))
}

fn policy(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn topic_id(guarded: &Guarded, key: &Key, name: &str) -> TopicId {
    let output = guarded.weir_as(key, &["topic", "describe", name, "--output", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", output_text(&output)));
    told["id"].as_str().expect("an id").parse().expect("a UUID")
}

fn expect(output: &std::process::Output) {
    assert!(output.status.success(), "{}", output_text(output));
}

#[test]
fn each_call_needs_its_actions_and_no_other() {
    let scratch = Scratch::new("isolation-actions");
    let guarded = Guarded::start(scratch.path());
    guarded.make_account(OURS, "orders", "abcd-1");
    guarded.operate(&["quota", "set", "unlimited", "--account", OURS], b"");
    let all = json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
    let key = guarded.make_user(OURS, "app", &policy(std::slice::from_ref(&all)));
    expect(&guarded.weir_as(&key, &["topic", "create", "app"]));
    expect(&guarded.weir_as(&key, &["group", "reset", "app", "--topic", "app", "--to", "latest"]));
    for call in CALLS {
        let version = *versions(call.key).end();
        let ask = |statements: &[Value]| {
            guarded.put_policy(OURS, "--user", "app", &policy(statements));
            // The gateway where one must log in hears of it in a moment.
            std::thread::sleep(std::time::Duration::from_millis(60));
            let mut session = Session::of(&guarded.plain, &key);
            (call.ask)(&mut session, version, "app", TopicId::default())
        };
        let action = |name: &&str| format!("kafka-cluster:{name}");
        let mut needed: Vec<String> = call.needs.iter().map(action).collect();
        for one in needed.clone() {
            let denied = ask(&[all.clone(), json!({ "Effect": "Deny", "Action": one, "Resource": "*" })]);
            assert!(is_denied(&denied), "{:?} without {one}: {denied}", call.key);
        }
        needed.push("kafka-cluster:Connect".to_owned());
        let arn = format!("arn:aws:kafka:{REGION}:{OURS}:*/orders/abcd-1*");
        let allowed = ask(&[json!({ "Effect": "Allow", "Action": needed, "Resource": arn })]);
        assert!(!is_denied(&allowed) && allowed != "closed", "{:?} with {needed:?}: {allowed}", call.key);
    }
}

#[test]
fn nothing_of_another_tenant_can_be_told_from_nothing() {
    let scratch = Scratch::new("isolation-matrix");
    let guarded = Guarded::start(scratch.path());
    for account in [OURS, THEIRS] {
        guarded.make_account(account, "orders", "abcd-1");
        // Two changes of topics a second are not what is looked at here.
        guarded.operate(&["quota", "set", "unlimited", "--account", account], b"");
    }
    let everything = policy(&[json!({ "Effect": "Allow", "Action": "*", "Resource": "*" })]);
    let [admin, theirs] = [OURS, THEIRS].map(|account| guarded.make_user(account, "admin", &everything));
    let app = guarded.make_user(OURS, "app", &app_policy(OURS, "orders", "abcd-1"));
    // Names of one length, since some are part of a policy's pattern and some are not.
    let make = |key: &Key, name: &str| {
        expect(&guarded.weir_as(key, &["topic", "create", name]));
        expect(&guarded.produce_as(key, name, "one\ntwo\n"));
        expect(&guarded.weir_as(key, &["group", "reset", name, "--topic", name, "--to", "latest"]));
        topic_id(&guarded, key, name)
    };
    let mut cells = 0;
    let mut leaks = Vec::new();
    for prefix in ["app", "etc"] {
        let names = ["own", "their", "gone", "never"].map(|kind| format!("{prefix}-{kind}"));
        let ids = [
            make(&admin, &names[0]),
            make(&theirs, &names[1]),
            make(&admin, &names[2]),
            TopicId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        ];
        expect(&guarded.weir_as(&admin, &["topic", "delete", &names[2]]));
        expect(&guarded.weir_as(&admin, &["group", "delete", &names[2]]));
        for (who, key) in [("admin", &admin), ("app", &app)] {
            let mut session = Session::of(&guarded.plain, key);
            for call in CALLS.iter().filter(|call| call.about != About::Cluster) {
                for version in versions(call.key) {
                    for by_id in [false, true] {
                        if by_id && !matches!(call.key, ApiKey::Metadata | ApiKey::DeleteTopics) {
                            continue;
                        }
                        let is_taking = matches!(call.key, ApiKey::DeleteGroups | ApiKey::DeleteTopics);
                        let mut told = Vec::new();
                        for (at, name) in names.iter().enumerate() {
                            let id = if by_id { ids[at] } else { TopicId::default() };
                            // What is one's own is wanted for the calls that follow.
                            let text = if is_taking && at == 0 {
                                String::new()
                            } else {
                                (call.ask)(&mut session, version, name, id)
                            };
                            cells += 1;
                            told.push(text.replace(name.as_str(), "NAME").replace(&ids[at].to_string(), "ID"));
                        }
                        let masked: Vec<String> = told.iter().map(|text| without_decision(text)).collect();
                        if masked[1] != masked[3] || masked[2] != masked[3] {
                            leaks.push(format!("{who} {prefix} {:?} v{version} by id {by_id}: {told:#?}", call.key));
                        }
                        // The matrix can tell what is there: an admin's own topics differ.
                        let tells = matches!(call.key, ApiKey::ListOffsets | ApiKey::DescribeConfigs | ApiKey::Fetch);
                        assert!(!(tells && who == "admin") || masked[0] != masked[3], "{:?}: {told:#?}", call.key);
                    }
                }
            }
        }
        // Theirs is as it was.
        let read = output_text(&guarded.weir_as(&theirs, &["consume", &names[1], "-o", "beginning", "-e"]));
        assert!(read.starts_with("one\ntwo\n"), "{read}");
    }
    assert!(leaks.is_empty(), "{} leaks: {}", leaks.len(), leaks.join("\n"));
    println!("{cells} cells");
    assert!(cells >= 2_000, "{cells} cells");
}

/// Each denial has an id of its own.
fn without_decision(text: &str) -> String {
    let strip = |text: &str, mark: &str| {
        let mut parts = text.split(mark);
        let first = parts.next().unwrap_or_default().to_owned();
        let id = |c: char| c.is_ascii_hexdigit() || c == '-';
        parts.fold(first, |out, part| out + mark + part.trim_start_matches(id))
    };
    strip(&strip(text, "(decision "), "policy why ")
}
