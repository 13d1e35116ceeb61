//! Kafka's messages: a small declarative codec, one declaration per message for both directions.
//!
//! `message!` lists a message's fields with the versions in which they exist, as Kafka's own schemas do. Arrays
//! and strings are checked against the bytes that are left before memory is taken; record batches are slices of
//! the request's frame. Unknown tagged fields are skipped (KIP-482). The tests hold every message and version
//! against the `kafka-protocol` crate, byte for byte (ADR 0002).

mod admin;
mod cluster;
mod configs;
mod errors;
mod fetch;
mod groups;
mod header;
mod meta;
mod offsets;
mod produce;
mod sasl;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes};
use types::TopicId;

use crate::codec::{DecodeError, Reader, Writer};

pub use admin::*;
pub use cluster::*;
pub use configs::*;
pub use errors::KafkaError;
pub use fetch::*;
pub use groups::*;
pub use header::*;
pub use meta::*;
pub use offsets::*;
pub use produce::*;
pub use sasl::*;

/// The version of a message and whether its encoding is flexible (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub number: i16,
    pub is_flexible: bool,
}

/// A value in Kafka's encoding.
pub trait Field: Sized {
    /// Bytes that any value takes at least.
    const MIN_BYTES: usize = 1;
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError>;
    fn write(&self, writer: &mut Writer, version: Version);
}

/// A request or response body.
pub trait Message: Field {
    /// The first version with the flexible encoding.
    const FLEXIBLE: i16;

    fn version(number: i16) -> Version {
        Version { number, is_flexible: number >= Self::FLEXIBLE }
    }

    /// What is left over is ignored, as Kafka's brokers do: librdkafka 2.16 leaves three bytes behind a Metadata request for
    /// all topics (its issue 5049).
    fn decode(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes), Self::version(version))
    }

    /// Nothing may be left over.
    fn decode_whole(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = Self::read(&mut reader, Self::version(version))?;
        reader.finish()?;
        Ok(message)
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        self.write(writer, Self::version(version));
    }

    /// For how long a client is to send nothing (KIP-219), in ms, where the message has a place for it.
    fn set_throttle_ms(&mut self, throttle_ms: i32);
}

macro_rules! number_field {
    ($($type:ident, $put:ident, $bytes:literal;)*) => {
        $(impl Field for $type {
            const MIN_BYTES: usize = $bytes;

            fn read(reader: &mut Reader, _: Version) -> Result<Self, DecodeError> {
                reader.$type(stringify!($type))
            }

            fn write(&self, writer: &mut Writer, _: Version) {
                writer.buffer.$put(*self);
            }
        })*
    };
}

number_field! {
    i8, put_i8, 1;
    i16, put_i16, 2;
    i32, put_i32, 4;
    i64, put_i64, 8;
}

impl Field for bool {
    fn read(reader: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        Ok(reader.i8("bool")? != 0)
    }

    fn write(&self, writer: &mut Writer, _: Version) {
        writer.buffer.put_i8(i8::from(*self));
    }
}

impl Field for TopicId {
    const MIN_BYTES: usize = 16;

    fn read(reader: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        reader.u128("topic id").map(TopicId)
    }

    fn write(&self, writer: &mut Writer, _: Version) {
        writer.buffer.put_u128(self.0);
    }
}

/// A length before its value: -1 (0 in the flexible encoding) is null.
fn read_length(reader: &mut Reader, version: Version, is_short: bool) -> Result<Option<i64>, DecodeError> {
    let length = if version.is_flexible {
        i64::from(reader.unsigned_varint("length")?) - 1
    } else if is_short {
        i64::from(reader.i16("length")?)
    } else {
        i64::from(reader.i32("length")?)
    };
    match length {
        -1 => Ok(None),
        length if length < -1 => Err(DecodeError::Length { what: "length", length }),
        length => Ok(Some(length)),
    }
}

fn write_length(writer: &mut Writer, version: Version, is_short: bool, length: Option<usize>) {
    if version.is_flexible {
        writer.unsigned_varint(length.map_or(0, |length| length as u32 + 1));
    } else if is_short {
        writer.buffer.put_i16(length.map_or(-1, |length| length as i16));
    } else {
        writer.buffer.put_i32(length.map_or(-1, |length| length as i32));
    }
}

impl Field for Option<String> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        match read_length(reader, version, true)? {
            None => Ok(None),
            Some(length) => {
                let length = reader.check_count("string", length, 1)?;
                reader.text("string", length).map(Some)
            }
        }
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_length(writer, version, true, self.as_ref().map(String::len));
        writer.buffer.put_slice(self.as_deref().unwrap_or_default().as_bytes());
    }
}

impl Field for String {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        Option::<Self>::read(reader, version)?.ok_or(DecodeError::Length { what: "string", length: -1 })
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_length(writer, version, true, Some(self.len()));
        writer.buffer.put_slice(self.as_bytes());
    }
}

/// Record batches, or bytes: shared with the frame they came in.
impl Field for Option<Bytes> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        match read_length(reader, version, false)? {
            None => Ok(None),
            Some(length) => {
                let length = reader.check_count("bytes", length, 1)?;
                reader.bytes("bytes", length).map(Some)
            }
        }
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_length(writer, version, false, self.as_ref().map(Bytes::len));
        if let Some(bytes) = self {
            writer.splice(bytes);
        }
    }
}

impl Field for Bytes {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        Option::<Self>::read(reader, version)?.ok_or(DecodeError::Length { what: "bytes", length: -1 })
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_length(writer, version, false, Some(self.len()));
        writer.splice(self);
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let Some(count) = read_length(reader, version, false)? else { return Ok(None) };
        let count = reader.check_count("array", count, T::MIN_BYTES)?;
        // Items may be larger in memory than on the wire: grow as they come.
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::read(reader, version)?);
        }
        Ok(Some(items))
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_length(writer, version, false, self.as_ref().map(Vec::len));
        self.iter().flatten().for_each(|item| item.write(writer, version));
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        Option::<Self>::read(reader, version)?.ok_or(DecodeError::Length { what: "array", length: -1 })
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_length(writer, version, false, Some(self.len()));
        self.iter().for_each(|item| item.write(writer, version));
    }
}

/// Reads past the tagged fields at the end of a flexible structure.
fn skip_tags(reader: &mut Reader, version: Version) -> Result<(), DecodeError> {
    if version.is_flexible {
        for _ in 0..reader.unsigned_varint("tag count")? {
            reader.unsigned_varint("tag")?;
            let length = reader.unsigned_varint("tag length")?;
            reader.bytes("tag", length as usize)?;
        }
    }
    Ok(())
}

fn write_no_tags(writer: &mut Writer, version: Version) {
    if version.is_flexible {
        writer.unsigned_varint(0);
    }
}

/// Declares structures: `field: Type [versions] = value where absent`.
macro_rules! message {
    ($($(#[$doc:meta])* struct $name:ident $(flexible $flexible:literal)? {
        $($(#[$fdoc:meta])* $field:ident: $type:ty [$range:expr] $(= $default:expr)?),* $(,)?
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($field: message!(@default $($default)?),)* }
                }
            }

            impl $crate::kafka::Field for $name {
                fn read(
                    reader: &mut $crate::codec::Reader,
                    version: $crate::kafka::Version,
                ) -> Result<Self, $crate::codec::DecodeError> {
                    let value = Self {
                        $($field: if ($range).contains(&version.number) {
                            <$type as $crate::kafka::Field>::read(reader, version)?
                        } else {
                            message!(@default $($default)?)
                        },)*
                    };
                    $crate::kafka::skip_tags(reader, version)?;
                    Ok(value)
                }

                fn write(&self, writer: &mut $crate::codec::Writer, version: $crate::kafka::Version) {
                    $(if ($range).contains(&version.number) {
                        $crate::kafka::Field::write(&self.$field, writer, version);
                    })*
                    $crate::kafka::write_no_tags(writer, version);
                }
            }

            message!(@message $name $($flexible)? { $($field)* });
        )*
    };
    (@message $name:ident { $($field:ident)* }) => {};
    (@message $name:ident $flexible:literal { $($field:ident)* }) => {
        impl $crate::kafka::Message for $name {
            const FLEXIBLE: i16 = $flexible;

            fn set_throttle_ms(&mut self, throttle_ms: i32) {
                let _ = throttle_ms;
                $(message!(@throttle $field self throttle_ms);)*
            }
        }
    };
    (@throttle throttle_ms $self:ident $value:ident) => { $self.throttle_ms = $value };
    (@throttle $other:ident $self:ident $value:ident) => {};
    (@default $default:expr) => { $default };
    (@default) => { Default::default() };
}
pub(crate) use message;
