//! Frames between our services on the data path: append, replicate, fence, open, fetch.
//!
//! A frame is a u32 length of what follows, then version u8, kind u8, two zero bytes, a correlation id u64, the
//! fields of its kind, and for some kinds one or more batches to the end. Answers carry the correlation id of
//! their question. Both directions are pipelined; a connection keeps order.

use bytes::{BufMut, Bytes, BytesMut};
use types::{
    AccountId, ClusterId, Epoch, ErrorCode, Generation, Incarnation, NodeId, Nonce, Offset, PrincipalId, Protocol,
    Replica, SegmentId, TopicPartition,
};

use crate::batch::Batch;
use crate::codec::{DecodeError, Reader};
use crate::dedupe::{DedupeKey, DedupeSnapshot};
use crate::groups::{GroupQuestion, GroupReply};
use crate::inventory::{Inventory, InventoryRequest};
use crate::journal::{AppendMeta, OpenMeta};
use crate::layout::{Layout, layout};

/// The newest version. Each frame carries the oldest version that has its kind, so that nodes of the release before
/// this one understand all that they can.
pub const VERSION: u8 = 7;
const OLDEST: u8 = 3;
/// The first that has [`Frame::Use`].
pub const VERSION_OF_USES: u8 = 7;

/// The oldest version that has a kind.
fn version_of(kind: u8) -> u8 {
    match kind {
        0..=16 => 3,
        17..=21 => 4,
        22..=24 => 5,
        25..=26 => 6,
        _ => VERSION,
    }
}
/// Bytes of a frame before its fields, the length prefix included.
pub const HEADER_BYTES: usize = 16;

/// What travels before a client's batch on its way from a gateway to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AppendHead {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub segment: SegmentId,
    pub principal: PrincipalId,
    pub protocol: Protocol,
    pub dedupe: DedupeKey,
    pub encryption_key: u32,
    /// `message.timestamp.type=LogAppendTime`: the leader stamps the batch.
    pub log_append_time: bool,
}

/// A client's batch on its way from a gateway to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppendRequest {
    pub head: AppendHead,
    pub batch: Batch,
}

/// Where an acknowledged batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Appended {
    pub base_offset: Offset,
    pub append_time: i64,
}

/// A refusal, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

/// From a leader to its follower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerMessage {
    Open(OpenMeta),
    /// `chain_before`: the chain hash at the batch's base offset.
    Append {
        meta: AppendMeta,
        chain_before: u64,
        batch: Batch,
    },
    /// The watermark moved and no append carries it.
    Commit {
        segment: SegmentId,
        commit: Offset,
    },
    /// Where do you stand? Sent after a reconnect.
    Resume {
        segment: SegmentId,
    },
}

impl PeerMessage {
    pub fn segment(&self) -> SegmentId {
        match self {
            Self::Open(open) => open.segment,
            Self::Append { meta, .. } => meta.segment,
            Self::Commit { segment, .. } | Self::Resume { segment } => *segment,
        }
    }
}

/// From a follower to its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerReply {
    /// Everything below `end` is fsynced here, the opening record included.
    Durable { segment: SegmentId, incarnation: Incarnation, end: Offset },
    /// An append did not fit; the follower stands at `end` with this chain hash.
    Gap { segment: SegmentId, incarnation: Incarnation, end: Offset, chain: u64 },
    /// Appends of this leadership are over here.
    Fenced { segment: SegmentId },
    /// This disk does not know the segment.
    Unknown { segment: SegmentId },
}

impl PeerReply {
    pub fn segment(&self) -> SegmentId {
        match self {
            Self::Durable { segment, .. }
            | Self::Gap { segment, .. }
            | Self::Fenced { segment }
            | Self::Unknown { segment } => *segment,
        }
    }
}

/// What one member says of a segment after its fence is fsynced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// Fsynced end, commit watermark as known here, chain hash at the end.
    Known { durable: Offset, commit: Offset, chain: u64 },
    /// No such segment on this disk: not a length.
    Unknown,
    /// Part of it is damaged: not a length.
    Damaged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FenceRequest {
    pub partition: TopicPartition,
    pub generation: Generation,
    /// Appends below this epoch fail from now on.
    pub epoch: Epoch,
    /// The open segment that the asker is about to seal.
    pub nonce: Option<Nonce>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FenceReply {
    pub incarnation: Incarnation,
    pub state: MemberState,
}

/// Tells the new leader to open a segment on itself and its follower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenRequest {
    pub account: AccountId,
    pub cluster: ClusterId,
    pub segment: SegmentId,
    /// Where the sealed segment before it ends.
    pub base: Offset,
    /// The segment before it: the source of producer state, and of the carried tail.
    pub previous: Option<SegmentId>,
    /// Carry everything of `previous` from `base` to here.
    pub carry_to: Offset,
    pub leader: Replica,
    pub follower: Replica,
    /// `host:port` of the follower.
    pub follower_address: String,
}

/// The segment is durable on both members up to `end`, its first free offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenReply {
    pub end: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FetchRequest {
    pub account: AccountId,
    pub segment: SegmentId,
    /// The segment's end if the reader knows it sealed.
    pub sealed_end: Option<Offset>,
    pub offset: Offset,
    /// Begin with the first batch at or above `offset` whose newest record is no older than this, in ms since 1970.
    pub since_ms: Option<i64>,
    /// 0 asks for the watermark and the size alone.
    pub bytes_max: u32,
    /// How long to wait for a batch at `offset`, in ms.
    pub wait_ms: u32,
}

/// Batches from `offset` on, as far as readers may see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchReply {
    /// The visible watermark of the segment.
    pub visible: Offset,
    /// Bytes that this copy of the segment takes in files and in the journal; 0 unless it was asked for, and where the
    /// segment's seal is not known yet.
    pub stored_bytes: u64,
    /// A run of stored batches (`stored`).
    pub batches: Bytes,
}

/// Asks a member what a segment is like at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DescribeRequest {
    pub account: AccountId,
    pub segment: SegmentId,
    /// Where it is sealed, or is about to be.
    pub end: Offset,
}

/// What one needs to know to copy a sealed segment, or to go on after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Description {
    pub open: OpenMeta,
    /// The chain hash at `end`; 0 where it is not known any more.
    pub chain: u64,
    /// Producer state at `end`.
    pub producers: DedupeSnapshot,
}

/// Tells a storage node to make a copy of a sealed segment. Asked again and again until it is done: the same question
/// begins the work, goes on with it, and confirms it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyRequest {
    pub account: AccountId,
    pub segment: SegmentId,
    pub base: Offset,
    pub end: Offset,
    /// Generation and version of the record that the asker is about to change.
    pub generation: Generation,
    pub record_version: u64,
    /// The disk that the asker means.
    pub target: Replica,
    /// `host:port` of members that have the segment.
    pub sources: Vec<String>,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CopyReply {
    pub copied_to: Offset,
    /// The copy is whole, fsynced, and stays until a record newer than the one asked for does not list it.
    pub is_done: bool,
}

/// Everything that travels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Frame {
    Append(Box<AppendRequest>),
    Appended(Result<Appended, Refusal>),
    Peer(Box<PeerMessage>),
    PeerReply(PeerReply),
    Fence(FenceRequest),
    Fenced(Result<FenceReply, Refusal>),
    Open {
        request: Box<OpenRequest>,
        /// Producer state at the new segment's base, for a leader that does not hold the segment before it.
        producers: Option<Box<DedupeSnapshot>>,
    },
    Opened(Result<OpenReply, Refusal>),
    Fetch(FetchRequest),
    Fetched(Result<FetchReply, Refusal>),
    /// The partition record changed: ask placement. Only a hint.
    Hint {
        partition: TopicPartition,
    },
    /// First frame of a leader's connection: who speaks.
    Hello {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// From a follower to its leaders: why it has no room for appends, or that it has.
    Room {
        refused: Option<ErrorCode>,
    },
    Describe(DescribeRequest),
    Described(Result<Box<Description>, Refusal>),
    Copy(Box<CopyRequest>),
    Copied(Result<CopyReply, Refusal>),
    Inventory(InventoryRequest),
    /// A question for the coordinator that leads a log.
    Ask(Box<GroupQuestion>),
    Told(Result<Box<GroupReply>, Refusal>),
    Inventoried(Result<Box<Inventory>, Refusal>),
    /// A gateway takes a signature, which may be taken once.
    Use(UseRequest),
    Used(Result<Used, Refusal>),
}

/// A signature of a request that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UseRequest {
    pub account: AccountId,
    /// A quarter of it.
    pub mark: u64,
}

/// What a storage node remembers of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Used {
    /// Nobody took it before, since then.
    pub is_first: bool,
    /// When it began to remember, in ms since 1970.
    pub since_ms: i64,
}

/// Before metadata was ever restored. Version 4 knew no other, and had no field for it.
const FIRST_GENERATION: Generation = Generation(1);

layout!(struct AppendHead {
    account, cluster, segment, principal, protocol, dedupe, encryption_key, log_append_time,
});
layout!(struct Appended { base_offset, append_time });
layout!(struct Refusal { code, message });
layout!(struct UseRequest { account, mark });
layout!(struct Used { is_first, since_ms });
layout!(enum PeerReply {
    1 = Durable { segment, incarnation, end },
    2 = Gap { segment, incarnation, end, chain },
    3 = Fenced { segment },
    4 = Unknown { segment },
});
layout!(enum MemberState { 1 = Known { durable, commit, chain }, 2 = Unknown, 3 = Damaged });
layout!(struct FenceRequest { partition, generation, epoch, nonce });
layout!(struct FenceReply { incarnation, state });
layout!(struct OpenRequest {
    account, cluster, segment, base, previous, carry_to, leader, follower, follower_address,
});
layout!(struct OpenReply { end });
layout!(struct DescribeRequest { account, segment, end });
layout!(struct Description { open, chain, producers });
layout!(struct CopyRequest { account, segment, base, end, generation, record_version, target, sources });
layout!(struct CopyReply { copied_to, is_done });
layout!(struct FetchRequest { account, segment, sealed_end, offset, since_ms, bytes_max, wait_ms });

impl<T: Layout> Layout for Result<T, Refusal> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Ok(value) => {
                out.put_u8(0);
                value.put(out);
            }
            Err(refusal) => {
                out.put_u8(1);
                refusal.put(out);
            }
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::take(reader)? { Err(Refusal::take(reader)?) } else { Ok(T::take(reader)?) })
    }
}

impl Frame {
    /// The frame as chunks to be written one after the other; batches are shared, not copied.
    pub fn encode(&self, correlation: u64) -> (Bytes, Option<Bytes>) {
        let mut out = BytesMut::with_capacity(256);
        out.put_u32(0);
        out.put_u8(VERSION);
        out.put_u8(0);
        out.put_u16(0);
        out.put_u64(correlation);
        let mut tail = None;
        let kind = match self {
            Self::Append(request) => {
                request.head.put(&mut out);
                tail = Some(put_batch(&request.batch, &mut out));
                1
            }
            Self::Appended(result) => {
                result.put(&mut out);
                2
            }
            Self::Peer(message) => match &**message {
                PeerMessage::Open(meta) => {
                    meta.put(&mut out);
                    3
                }
                PeerMessage::Append { meta, chain_before, batch } => {
                    meta.put(&mut out);
                    chain_before.put(&mut out);
                    tail = Some(put_batch(batch, &mut out));
                    4
                }
                PeerMessage::Commit { segment, commit } => {
                    segment.put(&mut out);
                    commit.put(&mut out);
                    5
                }
                PeerMessage::Resume { segment } => {
                    segment.put(&mut out);
                    6
                }
            },
            Self::PeerReply(reply) => {
                reply.put(&mut out);
                7
            }
            Self::Fence(request) => {
                request.put(&mut out);
                8
            }
            Self::Fenced(result) => {
                result.put(&mut out);
                9
            }
            Self::Open { request, producers: None } => {
                request.put(&mut out);
                10
            }
            Self::Open { request, producers: Some(producers) } => {
                request.put(&mut out);
                producers.put(&mut out);
                21
            }
            Self::Opened(result) => {
                result.put(&mut out);
                11
            }
            Self::Fetch(request) => {
                request.put(&mut out);
                12
            }
            Self::Fetched(Ok(reply)) => {
                out.put_u8(0);
                reply.visible.put(&mut out);
                reply.stored_bytes.put(&mut out);
                tail = Some(reply.batches.clone());
                13
            }
            Self::Fetched(Err(refusal)) => {
                out.put_u8(1);
                refusal.put(&mut out);
                13
            }
            Self::Hint { partition } => {
                partition.put(&mut out);
                14
            }
            Self::Hello { node, incarnation } => {
                node.put(&mut out);
                incarnation.put(&mut out);
                15
            }
            Self::Room { refused } => {
                refused.put(&mut out);
                16
            }
            Self::Describe(request) => {
                request.put(&mut out);
                17
            }
            Self::Described(result) => {
                result.put(&mut out);
                18
            }
            Self::Copy(request) if request.generation <= FIRST_GENERATION => {
                put_copy_of_the_first_generation(request, &mut out);
                19
            }
            Self::Copy(request) => {
                request.put(&mut out);
                22
            }
            Self::Inventory(request) => {
                request.put(&mut out);
                23
            }
            Self::Inventoried(result) => {
                result.put(&mut out);
                24
            }
            Self::Copied(result) => {
                result.put(&mut out);
                20
            }
            Self::Ask(question) => {
                question.put(&mut out);
                25
            }
            Self::Told(result) => {
                result.put(&mut out);
                26
            }
            Self::Use(request) => {
                request.put(&mut out);
                27
            }
            Self::Used(result) => {
                result.put(&mut out);
                28
            }
        };
        out[4] = version_of(kind);
        out[5] = kind;
        let length = out.len() - 4 + tail.as_ref().map_or(0, Bytes::len);
        out[..4].copy_from_slice(&(length as u32).to_be_bytes());
        (out.freeze(), tail.filter(|bytes| !bytes.is_empty()))
    }

    /// Decodes what follows the length prefix. Batches share `bytes`; their checksums are not checked here.
    pub fn decode(bytes: Bytes) -> Result<(u64, Self), DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("frame version")?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(DecodeError::Value { what: "frame version", value: i64::from(version) });
        }
        let kind = reader.u8("frame kind")?;
        reader.u16("frame reserved")?;
        let correlation = reader.u64("correlation id")?;
        let r = &mut reader;
        let frame = match kind {
            1 => {
                let head = AppendHead::take(r)?;
                Self::Append(Box::new(AppendRequest { head, batch: take_batch(r)? }))
            }
            2 => Self::Appended(Layout::take(r)?),
            3 => Self::Peer(Box::new(PeerMessage::Open(Layout::take(r)?))),
            4 => {
                let (meta, chain_before) = (Layout::take(r)?, Layout::take(r)?);
                Self::Peer(Box::new(PeerMessage::Append { meta, chain_before, batch: take_batch(r)? }))
            }
            5 => Self::Peer(Box::new(PeerMessage::Commit { segment: Layout::take(r)?, commit: Layout::take(r)? })),
            6 => Self::Peer(Box::new(PeerMessage::Resume { segment: Layout::take(r)? })),
            7 => Self::PeerReply(Layout::take(r)?),
            8 => Self::Fence(Layout::take(r)?),
            9 => Self::Fenced(Layout::take(r)?),
            10 => Self::Open { request: Layout::take(r)?, producers: None },
            11 => Self::Opened(Layout::take(r)?),
            12 => Self::Fetch(Layout::take(r)?),
            13 => Self::Fetched(if bool::take(r)? {
                Err(Refusal::take(r)?)
            } else {
                Ok(FetchReply { visible: Layout::take(r)?, stored_bytes: Layout::take(r)?, batches: r.take_rest() })
            }),
            14 => Self::Hint { partition: Layout::take(r)? },
            15 => Self::Hello { node: Layout::take(r)?, incarnation: Layout::take(r)? },
            16 => Self::Room { refused: Layout::take(r)? },
            17 => Self::Describe(Layout::take(r)?),
            18 => Self::Described(Layout::take(r)?),
            19 => Self::Copy(Box::new(take_copy_of_the_first_generation(r)?)),
            20 => Self::Copied(Layout::take(r)?),
            21 => Self::Open { request: Layout::take(r)?, producers: Some(Layout::take(r)?) },
            22 => Self::Copy(Layout::take(r)?),
            23 => Self::Inventory(Layout::take(r)?),
            24 => Self::Inventoried(Layout::take(r)?),
            25 => Self::Ask(Layout::take(r)?),
            26 => Self::Told(Layout::take(r)?),
            27 => Self::Use(Layout::take(r)?),
            28 => Self::Used(Layout::take(r)?),
            other => return Err(DecodeError::Value { what: "frame kind", value: i64::from(other) }),
        };
        reader.finish()?;
        Ok((correlation, frame))
    }
}

fn put_copy_of_the_first_generation(request: &CopyRequest, out: &mut BytesMut) {
    let CopyRequest { account, segment, base, end, record_version, target, sources, .. } = request;
    account.put(out);
    segment.put(out);
    base.put(out);
    end.put(out);
    record_version.put(out);
    target.put(out);
    sources.put(out);
}

fn take_copy_of_the_first_generation(r: &mut Reader) -> Result<CopyRequest, DecodeError> {
    Ok(CopyRequest {
        account: Layout::take(r)?,
        segment: Layout::take(r)?,
        base: Layout::take(r)?,
        end: Layout::take(r)?,
        generation: FIRST_GENERATION,
        record_version: Layout::take(r)?,
        target: Layout::take(r)?,
        sources: Layout::take(r)?,
    })
}

fn put_batch(batch: &Batch, out: &mut BytesMut) -> Bytes {
    batch.put_stored(out)
}

fn take_batch(reader: &mut Reader) -> Result<Batch, DecodeError> {
    Batch::take_stored(reader.take_rest()).map_err(|_| DecodeError::Value { what: "batch", value: 0 })
}

#[cfg(test)]
mod tests;
