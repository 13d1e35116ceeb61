//! A small Kafka client for `weir bench` and `weir consume -G`: one connection, pipelined requests, batches by reference.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use service::connection::{read_length_prefixed, write_all};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wire::codec::{Reader, Writer};
use wire::kafka::{
    ApiKey, CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, KafkaError, Message, Offered,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    has_flexible_response_header,
};

use crate::cli::{Credentials as CredentialOptions, KafkaTarget};
use crate::client::tls_config;
use crate::credentials::Credentials;
use crate::output::Failure;

/// The sending half.
pub struct KafkaWriter {
    socket: Box<dyn AsyncWrite + Send + Unpin>,
    correlation: i32,
    chunks: Vec<Bytes>,
}

/// The receiving half; answers come in the order of the requests.
pub struct KafkaReader {
    socket: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    expected: VecDeque<i32>,
}

fn offered(key: ApiKey) -> &'static Offered {
    Offered::of(key as i16).expect("this client uses what is offered")
}

/// Connects, and logs in if there are credentials.
///
/// # Errors
/// Nobody answers there, or the credentials are not taken.
pub async fn connect(target: &KafkaTarget, by: &CredentialOptions) -> Result<(KafkaWriter, KafkaReader), Failure> {
    let address = &target.kafka;
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host.trim_matches(['[', ']']));
    let unreachable = |error: std::io::Error| Failure::unreachable(format!("`{address}`: {error}"));
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true)?;
    let (read, write): (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>) = match &target.kafka_ca
    {
        None => {
            let (read, write) = stream.into_split();
            (Box::new(read), Box::new(write))
        }
        Some(file) => {
            let name =
                ServerName::try_from(host.to_owned()).map_err(|error| Failure::usage(format!("`{host}`: {error}")))?;
            let connector = TlsConnector::from(Arc::new(tls_config(file)?));
            let (read, write) = tokio::io::split(connector.connect(name, stream).await.map_err(unreachable)?);
            (Box::new(read), Box::new(write))
        }
    };
    let mut writer = KafkaWriter { socket: write, correlation: 0, chunks: Vec::new() };
    let mut reader =
        KafkaReader { socket: read, buffer: BytesMut::with_capacity(64 * 1024), expected: VecDeque::new() };
    if let Some(credentials) = Credentials::find(by)? {
        log_in(&mut writer, &mut reader, &credentials.msk_payload(host)).await?;
    }
    Ok((writer, reader))
}

async fn log_in(writer: &mut KafkaWriter, reader: &mut KafkaReader, payload: &str) -> Result<(), Failure> {
    let refused = |why: String| Failure { code: 4, message: why };
    let handshake = SaslHandshakeRequest { mechanism: "AWS_MSK_IAM".to_owned() };
    writer.send(ApiKey::SaslHandshake, 1, &handshake).await?;
    let answer: SaslHandshakeResponse = reader.receive(ApiKey::SaslHandshake, 1).await?;
    if answer.error != 0 {
        return Err(refused(format!("the login was refused (Kafka error {})", answer.error)));
    }
    let proof = SaslAuthenticateRequest { auth_bytes: Bytes::copy_from_slice(payload.as_bytes()) };
    writer.send(ApiKey::SaslAuthenticate, 2, &proof).await?;
    let answer: SaslAuthenticateResponse = reader.receive(ApiKey::SaslAuthenticate, 2).await?;
    if answer.error == 0 { Ok(()) } else { Err(refused(answer.error_message.unwrap_or_default())) }
}

impl KafkaWriter {
    /// Sends a request; returns its correlation id.
    pub async fn send<M: Message>(&mut self, key: ApiKey, version: i16, message: &M) -> io::Result<i32> {
        self.correlation += 1;
        let mut writer = Writer::with_capacity(256);
        writer.buffer.put_i16(key as i16);
        writer.buffer.put_i16(version);
        writer.buffer.put_i32(self.correlation);
        writer.buffer.put_i16(4);
        writer.buffer.put_slice(b"weir");
        if version >= offered(key).flexible {
            writer.unsigned_varint(0);
        }
        message.encode(&mut writer, version);
        self.chunks.push(Bytes::new());
        self.chunks.extend(writer.into_chunks());
        let length: usize = self.chunks.iter().map(Bytes::len).sum();
        self.chunks[0] = Bytes::copy_from_slice(&(length as u32).to_be_bytes());
        write_all(&mut self.socket, &mut self.chunks).await?;
        Ok(self.correlation)
    }
}

impl KafkaReader {
    pub async fn receive<M: Message>(&mut self, key: ApiKey, version: i16) -> io::Result<M> {
        let broken = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let frame = read_length_prefixed(&mut self.socket, &mut self.buffer, 128 * 1024 * 1024).await;
        let frame = frame.map_err(|error| broken(error.to_string()))?;
        let mut reader = Reader::new(frame.ok_or(io::ErrorKind::UnexpectedEof)?);
        let correlation = reader.i32("correlation id").map_err(|error| broken(error.to_string()))?;
        if let Some(expected) = self.expected.pop_front()
            && expected != correlation
        {
            return Err(broken(format!("answer {correlation} came where {expected} was due")));
        }
        if has_flexible_response_header(offered(key), version) {
            reader.unsigned_varint("tags").map_err(|error| broken(error.to_string()))?;
        }
        M::decode(reader.rest(), version).map_err(|error| broken(error.to_string()))
    }
}

/// Creates topics; those that exist are left as they are.
pub async fn create_topics(
    target: &KafkaTarget,
    by: &CredentialOptions,
    names: &[String],
    partitions: i32,
) -> Result<(), Failure> {
    let (mut writer, mut reader) = connect(target, by).await?;
    for names in names.chunks(50) {
        let topics = names.iter().map(|name| CreatableTopic {
            name: name.clone(),
            num_partitions: partitions,
            ..CreatableTopic::default()
        });
        let request = CreateTopicsRequest { topics: topics.collect(), timeout_ms: 30_000, validate_only: false };
        writer.send(ApiKey::CreateTopics, 7, &request).await?;
        let response: CreateTopicsResponse = reader.receive(ApiKey::CreateTopics, 7).await?;
        for topic in response.topics {
            if topic.error != 0 && topic.error != KafkaError::TopicAlreadyExists as i16 {
                return Err(Failure::failed(format!("`{}`: {}", topic.name, topic.error_message.unwrap_or_default())));
            }
        }
    }
    Ok(())
}
