//! `weir produce`: a line is a record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cli::ProduceOptions;
use crate::client::{Client, failure, part};
use crate::output::{Failure, Output};

/// Bytes of one request's body, well below the gateway's limit.
const BODY_BYTES: usize = 4 * 1024 * 1024;
const RECORDS_PER_REQUEST: usize = 10_000;

pub async fn run(options: ProduceOptions) -> Result<(), Failure> {
    let client = Client::new(&options.target)?;
    let progress = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() || std::io::stdin().is_terminal() && options.files.is_empty() {
        progress.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    progress.set_style(
        ProgressStyle::with_template("{spinner} {pos} records {per_sec}").unwrap_or(ProgressStyle::default_spinner()),
    );
    let mut total = 0;
    let inputs: Vec<Box<dyn Read>> = if options.files.is_empty() {
        vec![Box::new(std::io::stdin())]
    } else {
        let open = |file: &std::path::PathBuf| -> Result<Box<dyn Read>, Failure> {
            let opened = File::open(file).map_err(|error| Failure::failed(format!("`{}`: {error}", file.display())))?;
            Ok(Box::new(opened))
        };
        options.files.iter().map(open).collect::<Result<_, _>>()?
    };
    let is_interactive = std::io::stdin().is_terminal() && options.files.is_empty();
    let mut body = Vec::new();
    let mut count = 0;
    for input in inputs {
        let mut lines = BufReader::with_capacity(1 << 20, input);
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            record(&options, &line, &mut body)?;
            count += 1;
            if is_interactive || body.len() >= BODY_BYTES || count >= RECORDS_PER_REQUEST {
                send(&client, &options, std::mem::take(&mut body)).await?;
                total += std::mem::take(&mut count);
                progress.set_position(total as u64);
            }
        }
    }
    if count > 0 {
        send(&client, &options, body).await?;
        total += count;
    }
    progress.finish_and_clear();
    match options.target.output {
        Output::Json => println!("{}", json!({"records": total})),
        Output::Table => eprintln!("{total} {}", if total == 1 { "record" } else { "records" }),
    }
    Ok(())
}

/// Adds one line's record to the body.
fn record(options: &ProduceOptions, line: &[u8], body: &mut Vec<u8>) -> Result<(), Failure> {
    if options.json {
        return json_record(options, line, body);
    }
    let (key, value) = match &options.key_separator {
        Some(separator) if !separator.is_empty() => {
            let at = line.windows(separator.len()).position(|window| window == separator.as_bytes());
            match at {
                Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
                None => (None, line),
            }
        }
        _ => (None, line),
    };
    let mut record = serde_json::Map::new();
    if let Some(key) = key {
        put(&mut record, "key", key);
    }
    put(&mut record, "value", value);
    if let Some(partition) = options.partition {
        record.insert("partition".into(), partition.into());
    }
    if !options.header.is_empty() {
        let mut headers = Vec::new();
        for pair in &options.header {
            let (name, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("`{pair}` is not K=V")))?;
            headers.push(json!([name, value]));
        }
        record.insert("headers".into(), headers.into());
    }
    serde_json::to_writer(&mut *body, &record).map_err(|error| Failure::failed(error.to_string()))?;
    body.push(b'\n');
    Ok(())
}

/// A line as `weir consume --json` prints it: its offset says where it was, and is left out. Values stay verbatim.
fn json_record(options: &ProduceOptions, line: &[u8], body: &mut Vec<u8>) -> Result<(), Failure> {
    let wrong = |error: serde_json::Error| Failure::usage(format!("not a record as JSON: {error}"));
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(line).map_err(wrong)?;
    fields.remove("offset");
    if let Some(partition) = options.partition {
        fields.insert("partition".into(), RawValue::from_string(partition.to_string()).map_err(wrong)?);
    }
    serde_json::to_writer(&mut *body, &fields).map_err(wrong)?;
    body.push(b'\n');
    Ok(())
}

fn put(record: &mut serde_json::Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => record.insert(name.into(), text.into()),
        Err(_) => record.insert(format!("{name}_b64"), STANDARD.encode(bytes).into()),
    };
}

async fn send(client: &Client, options: &ProduceOptions, body: Vec<u8>) -> Result<(), Failure> {
    let mut path = format!("/v1/topics/{}/records", part(&options.topic));
    if let Some(codec) = &options.compression {
        path.push_str("?compression=");
        path.push_str(&part(codec));
    }
    let headers = [("content-type", "application/x-ndjson")];
    let (status, answer) = client.call(Method::POST, &path, &headers, Bytes::from(body)).await?;
    if status == StatusCode::OK {
        return Ok(());
    }
    if status == StatusCode::MULTI_STATUS {
        let lines = answer.split(|byte| *byte == b'\n');
        let failed = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let first = failed.into_iter().find_map(|line| line["error"]["detail"].as_str().map(str::to_owned));
        return Err(Failure::failed(format!("some records were refused: {}", first.unwrap_or_default())));
    }
    Err(failure(status, &serde_json::from_slice(&answer).unwrap_or(Value::Null)))
}
