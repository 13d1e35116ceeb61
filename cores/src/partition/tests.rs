//! What one node's partition answers to its peers.

use types::{ClusterId, Epoch, Generation, Incarnation, NodeId, Nonce, PrincipalId, Protocol, TopicId};
use types::{PartitionRecord, SegmentRecord};
use wire::compression::Codec;
use wire::frame::{AppendHead, CopyReply, CopyRequest, DescribeRequest, Description, OpenReply};
use wire::journal::{AppendMeta, OpenMeta};
use wire::records::{BatchBuilder, NewRecord};
use wire::{Batch, DedupeKey, DedupeSnapshot};

use super::*;

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(1), partition: 0 };
const LEADER: types::Replica = types::Replica { node: NodeId(1), incarnation: Incarnation(10) };
const FOLLOWER: types::Replica = types::Replica { node: NodeId(2), incarnation: Incarnation(20) };

fn segment() -> SegmentId {
    SegmentId { partition: PARTITION, generation: Generation(1), epoch: Epoch(1), nonce: Nonce(5) }
}

fn open() -> PeerMessage {
    PeerMessage::Open(OpenMeta {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: segment(),
        base: 0,
        first_free: 0,
        leader: LEADER,
        follower: FOLLOWER,
        encryption_key: 0,
        snapshot: DedupeSnapshot::default(),
    })
}

fn batch(text: &str, offset: Offset) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { key: None, value: Some(text.as_bytes()), timestamp: 1, headers: &[] });
    builder.finish(Codec::None).expect("a batch").placed_at(offset, 1)
}

fn append(batch: Batch, chain_before: u64) -> PeerMessage {
    let meta = AppendMeta {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: segment(),
        principal: PrincipalId(0),
        protocol: Protocol::Kafka,
        dedupe: DedupeKey::None,
        encryption_key: 0,
        append_time: 1,
        commit: 0,
    };
    PeerMessage::Append { meta, chain_before, batch }
}

fn tell(follower: &mut Partition, message: PeerMessage) -> Vec<Effect> {
    follower.step(Now::default(), Input::Peer { from: LEADER.node, message: Box::new(message) })
}

/// `Unknown` would ask the leader to send the opening again, for ever.
#[test]
fn an_opening_for_a_disk_that_was_replaced_ends_that_leadership() {
    let replaced = types::Replica { incarnation: Incarnation(21), ..FOLLOWER };
    let mut follower = Partition::new(PARTITION, replaced, Rules::ALL);
    let effects = tell(&mut follower, open());
    assert!(matches!(effects[..], [Effect::Reply { reply: PeerReply::Fenced { .. }, .. }]), "{effects:?}");
    assert!(follower.replica().segment(segment().nonce).is_none());
}

/// No run of the simulator has two authors of one segment: `LeaderNeverResumes` sees to that. Should it ever
/// happen, the offset alone would take one author's batch for the other's.
#[test]
fn a_follower_tells_batches_by_their_chain_and_not_by_their_offset() {
    for rules in [Rules::ALL, Rules::without(Rule::CheckChain)] {
        let mut follower = Partition::new(PARTITION, FOLLOWER, rules);
        tell(&mut follower, open());
        let seed = follower.replica().segment(segment().nonce).expect("opened").chain;
        tell(&mut follower, append(batch("one author's", 0), seed));
        // At an offset that is taken, and behind a batch that is not there.
        let taken = tell(&mut follower, append(batch("another's", 0), seed));
        let behind = tell(&mut follower, append(batch("its next", 1), batch("another's", 0).chain_after(seed)));
        let end = follower.replica().segment(segment().nonce).expect("opened").end;
        if rules == Rules::ALL {
            for effects in [taken, behind] {
                assert!(matches!(effects[..], [Effect::Reply { reply: PeerReply::Fenced { .. }, .. }]), "{effects:?}");
            }
            assert_eq!(end, 1);
        } else {
            assert_eq!(end, 2, "the breach shows here");
        }
    }
}

/// Requests name the tenant; whoever else's they are, nothing is done for them.
#[test]
fn another_tenants_requests_are_refused() {
    let is_refused = |effects: &[Effect]| format!("{effects:?}").contains("TenantMismatch");
    for (account, cluster) in [(2, 1), (1, 2), (2, 2)] {
        let (account, cluster) = (AccountId(account), ClusterId(cluster));
        let mut leader = leader();
        let length = leader.replica().segment(segment().nonce).expect("opened").end;
        let append = |account, cluster| {
            let mut request = request("x", 1, false);
            (request.head.account, request.head.cluster) = (account, cluster);
            Input::Append { token: 9, request, no_room: None }
        };
        let effects = leader.step(Now::default(), append(account, cluster));
        assert!(is_refused(&effects), "{account:?} {cluster:?}: {effects:?}");
        assert_eq!(leader.replica().segment(segment().nonce).expect("opened").end, length);
        assert!(!is_refused(&leader.step(Now::default(), append(AccountId(1), ClusterId(1)))));
        assert!(leader.check_tenant(account, Some(cluster)).is_err(), "groups and readers");
        // A later segment of the same partition, here and at a follower.
        let later = SegmentId { epoch: Epoch(2), nonce: Nonce(6), ..segment() };
        let request = OpenRequest {
            account,
            cluster,
            segment: later,
            base: 0,
            previous: None,
            carry_to: 0,
            leader: LEADER,
            follower: FOLLOWER,
            follower_address: String::new(),
        };
        let effects =
            leader.step(Now::default(), Input::Open { token: 2, request: Box::new(request), producers: None });
        assert!(is_refused(&effects), "{effects:?}");
        let mut follower = Partition::new(PARTITION, FOLLOWER, Rules::ALL);
        tell(&mut follower, open());
        let PeerMessage::Open(meta) = open() else { unreachable!("an opening") };
        let effects = tell(&mut follower, PeerMessage::Open(OpenMeta { account, cluster, segment: later, ..meta }));
        assert!(matches!(effects[..], [Effect::Reply { reply: PeerReply::Fenced { .. }, .. }]), "{effects:?}");
        assert!(follower.replica().segment(later.nonce).is_none());
    }
    // Whoever copies or reads names the account alone.
    let leader = leader();
    assert!(leader.check_tenant(AccountId(2), None).is_err() && leader.check_tenant(AccountId(1), None).is_ok());
    let request = DescribeRequest { account: AccountId(2), segment: segment(), end: 0 };
    assert_eq!(leader.describe(&request).map(|_| ()).map_err(|refusal| refusal.code), Err(ErrorCode::TenantMismatch));
    let mut target = Partition::new(PARTITION, FOLLOWER, Rules::ALL);
    tell(&mut target, open());
    let copy = CopyRequest {
        account: AccountId(2),
        segment: segment(),
        base: 0,
        end: 0,
        generation: Generation(1),
        record_version: 2,
        target: FOLLOWER,
        sources: Vec::new(),
    };
    let effects = target.step(Now::default(), Input::Copy { token: 3, request: Box::new(copy) });
    assert!(is_refused(&effects), "{effects:?}");
}

/// An active leader, whose follower is far away.
fn leader() -> Partition {
    let mut leader = Partition::new(PARTITION, LEADER, Rules::ALL);
    let request = OpenRequest {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: segment(),
        base: 0,
        previous: None,
        carry_to: 0,
        leader: LEADER,
        follower: FOLLOWER,
        follower_address: String::new(),
    };
    leader.step(Now::default(), Input::Open { token: 1, request: Box::new(request), producers: None });
    leader.step(Now::default(), Input::JournalDurable);
    let durable = PeerReply::Durable { segment: segment(), incarnation: FOLLOWER.incarnation, end: 0 };
    let effects = leader.step(Now::default(), Input::PeerReply { from: FOLLOWER.node, reply: durable });
    let opened = Effect::AnswerOpen { token: 1, result: Ok(OpenReply { end: 0 }) };
    assert!(effects.iter().any(|effect| format!("{effect:?}") == format!("{opened:?}")), "{effects:?}");
    let record = PartitionRecord {
        account: AccountId(1),
        cluster: ClusterId(1),
        topic: PARTITION.topic,
        partition: PARTITION.partition,
        generation: Generation(1),
        epoch: Epoch(1),
        version: 1,
        log_start: 0,
        gaps: Vec::new(),
        chain: vec![SegmentRecord {
            generation: Generation(1),
            epoch: Epoch(1),
            nonce: Nonce(5),
            base: 0,
            end: None,
            replicas: [LEADER, FOLLOWER],
            changed_ms: None,
        }],
    };
    leader.step(Now::default(), Input::Record(Box::new(record)));
    assert!(leader.leader().is_some_and(Leader::is_active));
    leader
}

fn request(text: &str, number: u64, log_append_time: bool) -> Box<AppendRequest> {
    let head = AppendHead {
        account: AccountId(1),
        cluster: ClusterId(1),
        segment: segment(),
        principal: PrincipalId(0),
        protocol: Protocol::Kafka,
        dedupe: DedupeKey::Session { session: types::SessionId(1), number, floor: 0 },
        encryption_key: 0,
        log_append_time,
    };
    Box::new(AppendRequest { head, batch: batch(text, 0) })
}

#[test]
fn log_time_never_falls_though_the_clock_does() {
    let mut leader = leader();
    let mut stamps = Vec::new();
    for (number, wall_ms) in [10_000, 5_000, 12_000].into_iter().enumerate() {
        let now = Now { monotonic_ms: 1, wall_ms };
        let input = Input::Append { token: 7, request: request("v", number as u64, true), no_room: None };
        for effect in leader.step(now, input) {
            if let Effect::Journal(JournalEntry::Append { meta, batch }) = effect {
                assert_eq!(batch.header().max_timestamp, meta.append_time, "the batch is stamped");
                stamps.push(meta.append_time);
            }
        }
    }
    assert_eq!(stamps, [10_000, 10_000, 12_000]);
}

/// "No room" would be a lie about a batch that is in the log: its sender would send it as a new one.
#[test]
fn without_room_what_the_log_holds_is_answered_and_what_is_new_is_refused() {
    let mut leader = leader();
    let no_room = || Some(Box::new(refusal(ErrorCode::Overloaded, "no room")));
    let append = |leader: &mut Partition, token, number, no_room| {
        let input = Input::Append { token, request: request("v", number, false), no_room };
        leader.step(Now::default(), input)
    };
    append(&mut leader, 1, 0, None);
    // Again, as after a change of leader: it waits for its commit like the first.
    assert!(append(&mut leader, 2, 0, no_room()).is_empty());
    let refused = append(&mut leader, 3, 1, no_room());
    assert!(
        matches!(&refused[..], [Effect::Answer { token: 3, result: Err(why) }] if why.code == ErrorCode::Overloaded)
    );
    leader.step(Now::default(), Input::JournalDurable);
    let durable = PeerReply::Durable { segment: segment(), incarnation: FOLLOWER.incarnation, end: 1 };
    let answers = leader.step(Now::default(), Input::PeerReply { from: FOLLOWER.node, reply: durable });
    let tokens: Vec<Token> = answers
        .iter()
        .filter_map(|effect| match effect {
            Effect::Answer { token, result: Ok(appended) } if appended.base_offset == 0 => Some(*token),
            _ => None,
        })
        .collect();
    assert_eq!(tokens, [1, 2]);
}

/// Without a second zone nothing is left waiting for its deadline; what the log holds is told from what is new all the same.
#[test]
fn without_a_pair_what_is_new_is_refused_until_the_follower_is_back() {
    let mut leader = leader();
    let append = |leader: &mut Partition, token, number| {
        let input = Input::Append { token, request: request("v", number, false), no_room: None };
        leader.step(Now::default(), input)
    };
    leader.step(Now::default(), Input::NoPair);
    let is_written = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Journal(_)));
    assert!(is_written(&append(&mut leader, 1, 0)), "the follower is there: the word is old");
    leader.step(Now::default(), Input::PeerDown { node: FOLLOWER.node });
    assert!(is_written(&append(&mut leader, 2, 1)), "it may be back in a moment");
    leader.step(Now::default(), Input::NoPair);
    let refused = append(&mut leader, 3, 2);
    assert!(
        matches!(&refused[..], [Effect::Answer { token: 3, result: Err(why) }] if why.code == ErrorCode::AzUnavailable)
    );
    assert!(append(&mut leader, 4, 0).is_empty(), "it is in the log, and waits like the first");
    leader.step(Now::default(), Input::PeerUp { node: FOLLOWER.node });
    let durable = PeerReply::Durable { segment: segment(), incarnation: FOLLOWER.incarnation, end: 0 };
    leader.step(Now::default(), Input::PeerReply { from: FOLLOWER.node, reply: durable });
    assert!(is_written(&append(&mut leader, 5, 2)));
}

/// A process that ended does not come back: its partitions do not wait for it.
#[test]
fn a_follower_whose_process_ended_is_replaced_at_once() {
    let asks = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::RequestFailover { .. })).count();
    let at = |ms| Now { monotonic_ms: ms, ..Now::default() };
    let mut leader = leader();
    let gone = Input::PeerGone { node: FOLLOWER.node };
    leader.step(at(1_000), Input::Append { token: 1, request: request("v", 0, false), no_room: None });
    assert_eq!(asks(&leader.step(at(1_000), gone.clone())), 0, "there is a connection");
    leader.step(at(1_000), Input::PeerDown { node: FOLLOWER.node });
    assert_eq!(asks(&leader.step(at(1_005), Input::PeerGone { node: NodeId(77) })), 0, "that is another");
    assert_eq!(asks(&leader.step(at(1_010), gone.clone())), 1);
    assert_eq!(asks(&leader.step(at(1_011), gone)), 0, "it was asked for just now");
    assert_eq!(asks(&leader.step(at(1_310), Input::Tick)), 0);
    assert_eq!(asks(&leader.step(at(2_010), Input::Tick)), 1, "and again, if nothing comes of it");
}

#[test]
fn where_nobody_waits_a_follower_has_a_moment_to_come_back() {
    let asks = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::RequestFailover { .. }));
    let at = |ms| Now { monotonic_ms: ms, ..Now::default() };
    let mut leader = leader();
    leader.step(at(1_000), Input::PeerDown { node: FOLLOWER.node });
    assert!(!asks(&leader.step(at(1_010), Input::PeerGone { node: FOLLOWER.node })));
    let mut other = leader.clone();
    assert!(asks(&leader.step(at(1_300), Input::Tick)));
    let append = Input::Append { token: 1, request: request("v", 0, false), no_room: None };
    let effects = other.step(at(1_020), append);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Wake { at_ms } if *at_ms <= 1_020)), "{effects:?}");
    assert!(asks(&other.step(at(1_021), Input::Tick)), "somebody waits now");
    assert!(!asks(&other.step(at(1_300), Input::Tick)), "it was asked for");
}

/// A copy that is only being made knows the producers of what it has. A leader that went on from there would take a
/// resend of anything later for something new.
#[test]
fn nobody_goes_on_from_where_its_copy_does_not_reach() {
    let mut member = Partition::new(PARTITION, FOLLOWER, Rules::ALL);
    tell(&mut member, open());
    member.step(Now::default(), Input::JournalDurable);
    let chain = member.replica().segment(segment().nonce).expect("just opened").chain;
    tell(&mut member, append(batch("one", 0), chain));
    member.step(Now::default(), Input::JournalDurable);
    for (base, is_here) in [(2, false), (1, true)] {
        let request = OpenRequest {
            account: AccountId(1),
            cluster: ClusterId(1),
            segment: SegmentId { epoch: Epoch(2), nonce: Nonce(6), ..segment() },
            base,
            previous: Some(segment()),
            carry_to: base,
            leader: FOLLOWER,
            follower: LEADER,
            follower_address: String::new(),
        };
        let input = Input::Open { token: 1, request: Box::new(request), producers: None };
        let effects = member.step(Now::default(), input);
        let is_refused = effects.iter().any(|e| matches!(e, Effect::AnswerOpen { result: Err(_), .. }));
        assert_eq!(is_refused, !is_here, "{base}: {effects:?}");
    }
}

/// What an old leader still has under way must not begin again where a topic was deleted.
#[test]
fn a_deletion_keeps_the_fence() {
    let mut replica = Replica::new(PARTITION, Rules::ALL);
    replica.fence(1, (Generation(1), Epoch(7)), None).expect("a first fence");
    replica.delete();
    assert_eq!(replica.floor(), (Generation(1), Epoch(7)));
}

/// A batch of an idempotent producer.
fn produced(epoch: i16, sequence: i32) -> Box<AppendRequest> {
    let mut builder = BatchBuilder::new().producer(7, epoch, sequence);
    builder.push(NewRecord { key: None, value: Some(b"v"), timestamp: 1, headers: &[] });
    let batch = builder.finish(Codec::None).expect("a batch");
    Box::new(AppendRequest { batch, ..*request("", 0, false) })
}

fn at(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, ..Now::default() }
}

/// What a leader answers to an append, and how many batches it writes meanwhile.
fn tried(effects: &[Effect]) -> (Vec<(Token, Option<ErrorCode>)>, usize) {
    let written = effects.iter().filter(|effect| matches!(effect, Effect::Journal(_))).count();
    let answers = effects.iter().filter_map(|effect| match effect {
        Effect::Answer { token, result } => Some((*token, result.as_ref().err().map(|why| why.code))),
        _ => None,
    });
    (answers.collect(), written)
}

/// The simulator found it (seed 109015): a producer's first batch was refused, the next one waited for it, its sender stood
/// still, and after a second the next one was taken for that of a producer whose state had expired. The first one could never
/// be appended then, and the producer failed for good.
#[test]
fn what_follows_a_first_batch_that_was_refused_is_not_taken_for_the_first() {
    let no_room = || Some(Box::new(refusal(ErrorCode::Overloaded, "no room")));
    let append = |leader: &mut Partition, ms, token, request, no_room| {
        tried(&leader.step(at(ms), Input::Append { token, request, no_room }))
    };
    let mut first = leader();
    assert_eq!(append(&mut first, 0, 1, produced(0, 0), no_room()), (vec![(1, Some(ErrorCode::Overloaded))], 0));
    assert_eq!(append(&mut first, 0, 2, produced(0, 1), None), (vec![], 0), "it waits");
    let later = tried(&first.step(at(1_500), Input::Tick));
    assert_eq!(later, (vec![(2, Some(ErrorCode::OutOfOrderSequence))], 0));
    assert_eq!(append(&mut first, 1_600, 3, produced(0, 0), None), (vec![], 1));
    assert_eq!(append(&mut first, 1_600, 4, produced(0, 1), None), (vec![], 1));
    // The same of a newer epoch: it begins with 0, whether that was seen here or not.
    assert_eq!(append(&mut first, 1_600, 5, produced(1, 3), None), (vec![], 0));
    let later = tried(&first.step(at(3_000), Input::Tick));
    assert_eq!(later, (vec![(5, Some(ErrorCode::OutOfOrderSequence))], 0));
    assert_eq!(append(&mut first, 3_000, 6, produced(1, 0), None), (vec![], 1));
    // Of a producer that nobody knows any more it is the first that is left (KIP-360).
    let mut other = leader();
    assert_eq!(append(&mut other, 0, 1, produced(3, 9), None), (vec![], 0));
    assert_eq!(tried(&other.step(at(1_500), Input::Tick)), (vec![], 1));
}

/// Placement asks the follower's disk for a copy of the segment, sealed at 2.
fn ask_for_copy(member: &mut Partition) -> Vec<Effect> {
    let request = CopyRequest {
        account: AccountId(1),
        segment: segment(),
        base: 0,
        end: 2,
        generation: Generation(1),
        record_version: 5,
        target: FOLLOWER,
        sources: vec!["other:1".into()],
    };
    member.step(at(0), Input::Copy { token: 1, request: Box::new(request) })
}

/// Planted bugs were sought, and this was found: a copy is sealed the moment everything was given, a flush notes that beside
/// how far it is on disk, and the power fails. It must be made anew, also where no record says that it is not needed.
#[test]
fn a_copy_that_a_flush_saw_sealed_and_a_power_cut_made_short_is_begun_anew() {
    let mut member = Partition::new(PARTITION, FOLLOWER, Rules::ALL);
    ask_for_copy(&mut member);
    let PeerMessage::Open(open) = open() else { unreachable!() };
    let nonce = segment().nonce;
    let mut go_on = |progress| member.step(at(0), Input::Copied(progress));
    go_on(Progress::Begun(Box::new(open.clone())));
    go_on(Progress::Batches { nonce, batches: vec![batch("one", 0), batch("two", 1)] });
    let description = Description { open, chain: 0, producers: DedupeSnapshot::default() };
    go_on(Progress::Whole { segment: segment(), end: 2, record_version: 5, description: Box::new(description) });
    // The opening and the first batch are on disk.
    member.step(at(0), Input::JournalDurable);
    member.step(at(0), Input::JournalDurable);
    let images: Vec<_> = member.replica().images().collect();
    assert_eq!((images[0].end, images[0].sealed), (1, Some(2)));
    let mut replica = Replica::new(PARTITION, Rules::ALL);
    replica.restore((Generation(0), Epoch(0)), images.into_iter().map(Segment::of_image));
    let mut again = Partition::recovered(replica, FOLLOWER, Rules::ALL);
    let effects = ask_for_copy(&mut again);
    assert!(effects.iter().any(|e| matches!(e, Effect::Copy { from: 0, .. })), "{effects:?}");
    assert!(
        effects.iter().any(|e| matches!(e, Effect::AnswerCopy { result: Ok(CopyReply { is_done: false, .. }), .. }))
    );
}

/// Batches that are refused because too much is in flight are as refused as all others: see above.
#[test]
fn what_follows_a_first_batch_that_was_refused_for_what_is_in_flight_is_not_taken_for_the_first() {
    let mut leader = leader();
    let mut token = 0;
    // The follower acknowledges nothing.
    let refused = loop {
        token += 1;
        let input = Input::Append { token, request: request("v", token - 1, false), no_room: None };
        match tried(&leader.step(at(0), input)) {
            (answers, 1) if answers.is_empty() => {}
            other => break other,
        }
        assert!(token < 100_000, "there is a bound");
    };
    assert_eq!(refused, (vec![(token, Some(ErrorCode::Overloaded))], 0));
    let append = |leader: &mut Partition, ms, token, request| {
        tried(&leader.step(at(ms), Input::Append { token, request, no_room: None }))
    };
    assert_eq!(append(&mut leader, 0, 200_001, produced(0, 0)).0, [(200_001, Some(ErrorCode::Overloaded))]);
    let end = i64::try_from(token).expect("few") - 1;
    let durable = PeerReply::Durable { segment: segment(), incarnation: FOLLOWER.incarnation, end };
    leader.step(at(10), Input::PeerReply { from: FOLLOWER.node, reply: durable });
    (1..token).for_each(|_| drop(leader.step(at(10), Input::JournalDurable)));
    assert_eq!(append(&mut leader, 20, 200_002, produced(0, 1)), (vec![], 0), "it waits");
    assert_eq!(tried(&leader.step(at(1_500), Input::Tick)), (vec![(200_002, Some(ErrorCode::OutOfOrderSequence))], 0));
}

/// All batches of a copy may be on disk before the source has said what it is like at its end: it is not whole before.
#[test]
fn a_copy_that_broke_off_is_not_whole_until_its_source_said_so() {
    let mut member = Partition::new(PARTITION, FOLLOWER, Rules::ALL);
    ask_for_copy(&mut member);
    let PeerMessage::Open(open) = open() else { unreachable!() };
    let nonce = segment().nonce;
    for progress in [
        Progress::Begun(Box::new(open)),
        Progress::Batches { nonce, batches: vec![batch("one", 0), batch("two", 1)] },
        Progress::Failed { nonce },
    ] {
        member.step(at(0), Input::Copied(progress));
    }
    (0..3).for_each(|_| drop(member.step(at(0), Input::JournalDurable)));
    let effects = ask_for_copy(&mut member);
    assert!(effects.iter().any(|e| matches!(e, Effect::Copy { from: 2, .. })), "{effects:?}");
    assert!(
        effects.iter().any(|e| matches!(e, Effect::AnswerCopy { result: Ok(CopyReply { is_done: false, .. }), .. }))
    );
    assert!(member.replica().segment(nonce).is_some_and(|segment| segment.sealed.is_none()));
}
