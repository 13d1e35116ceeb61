//! How plain structs become bytes in our own formats (frames, journal records, file headers).
//!
//! Fields in the order of their declaration, big-endian; a list is a u32 count and its items; a text is a
//! u32 length and UTF-8; an option is one byte (0 or 1) and the value. `layout!` writes both directions from
//! one declaration, so they cannot disagree.

use bytes::{BufMut, Bytes, BytesMut};
use types::{
    AccountId, ClusterId, Epoch, ErrorCode, Generation, Incarnation, NodeId, Nonce, PrincipalId, Protocol, Replica,
    SegmentId, SessionId, TopicId, TopicPartition,
};

use crate::codec::{DecodeError, Reader};

/// A value with a byte layout of ours.
pub trait Layout: Sized {
    fn put(&self, out: &mut BytesMut);
    fn take(reader: &mut Reader) -> Result<Self, DecodeError>;
}

macro_rules! number_layout {
    ($($type:ident, $put:ident;)*) => {
        $(impl Layout for $type {
            fn put(&self, out: &mut BytesMut) {
                out.$put(*self);
            }

            fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
                reader.$type(stringify!($type))
            }
        })*
    };
}

number_layout! {
    u8, put_u8;
    i16, put_i16;
    u16, put_u16;
    i32, put_i32;
    u32, put_u32;
    i64, put_i64;
    u64, put_u64;
    u128, put_u128;
}

macro_rules! newtype_layout {
    ($($type:ident($inner:ident);)*) => {
        $(impl Layout for $type {
            fn put(&self, out: &mut BytesMut) {
                self.0.put(out);
            }

            fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
                $inner::take(reader).map($type)
            }
        })*
    };
}

newtype_layout! {
    AccountId(u64);
    ClusterId(u128);
    Epoch(i32);
    Generation(u32);
    Incarnation(u128);
    NodeId(u32);
    Nonce(u128);
    PrincipalId(u64);
    SessionId(u128);
    TopicId(u128);
}

impl Layout for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8("flag")? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Value { what: "flag", value: i64::from(value) }),
        }
    }
}

impl Layout for Protocol {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(*self as u8);
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.u8("protocol").map(Self::from_number)
    }
}

impl Layout for ErrorCode {
    fn put(&self, out: &mut BytesMut) {
        out.put_u16(*self as u16);
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.u16("error code").map(Self::from_number)
    }
}

impl Layout for String {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self.as_bytes());
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let length = reader.u32("text length")?;
        let length = reader.check_count("text length", i64::from(length), 1)?;
        reader.text("text", length)
    }
}

impl<T: Layout> Layout for Box<T> {
    fn put(&self, out: &mut BytesMut) {
        (**self).put(out);
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        T::take(reader).map(Box::new)
    }
}

impl<T: Layout> Layout for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.u32("count")?;
        let count = reader.check_count("count", i64::from(count), 1)?;
        // The items may be larger in memory than on the wire: grow as they come.
        let mut items = Self::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::take(reader)?);
        }
        Ok(items)
    }
}

impl<T: Layout> Layout for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::take(reader)? { Some(T::take(reader)?) } else { None })
    }
}

/// A whole value from exactly these bytes.
pub fn decode<T: Layout>(bytes: Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::take(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// A value's bytes.
pub fn encode<T: Layout>(value: &T) -> Bytes {
    let mut out = BytesMut::new();
    value.put(&mut out);
    out.freeze()
}

/// Implements [`Layout`] for a struct, or for an enum whose variants carry a number.
macro_rules! layout {
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::layout::Layout for $name {
            fn put(&self, out: &mut bytes::BytesMut) {
                $($crate::layout::Layout::put(&self.$field, out);)*
                let _ = out;
            }

            fn take(reader: &mut $crate::codec::Reader) -> Result<Self, $crate::codec::DecodeError> {
                let _ = &reader;
                Ok(Self { $($field: $crate::layout::Layout::take(reader)?,)* })
            }
        }
    };
    (enum $name:ident { $($number:literal = $variant:ident $({ $($field:ident),* $(,)? })?),* $(,)? }) => {
        impl $crate::layout::Layout for $name {
            fn put(&self, out: &mut bytes::BytesMut) {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        bytes::BufMut::put_u8(out, $number);
                        $($($crate::layout::Layout::put($field, out);)*)?
                    })*
                }
            }

            fn take(reader: &mut $crate::codec::Reader) -> Result<Self, $crate::codec::DecodeError> {
                match reader.u8(stringify!($name))? {
                    $($number => Ok(Self::$variant $({ $($field: $crate::layout::Layout::take(reader)?),* })?),)*
                    value => Err($crate::codec::DecodeError::Value {
                        what: stringify!($name),
                        value: i64::from(value),
                    }),
                }
            }
        }
    };
}
pub(crate) use layout;

layout!(struct TopicPartition { topic, partition });
layout!(struct SegmentId { partition, generation, epoch, nonce });
layout!(struct Replica { node, incarnation });
