//! Exit codes, tables and JSON.

use std::io::Write as _;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;
use service::api::ApiError;
use types::ErrorCode;

/// Why a command ends without success: 1 failed, 2 wrong usage or configuration, 3 not reachable, 4 not allowed,
/// 5 not found.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: 5, message: message.into() }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error.code {
            ErrorCode::PlacementUnavailable => Self::unreachable(error.to_string()),
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::NotFound => {
                Self::not_found(error.to_string())
            }
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// An empty line between two tables.
pub fn blank(output: Output) {
    if output == Output::Table {
        // A reader that has gone is no error.
        let _ = writeln!(std::io::stdout());
    }
}

/// What others chose, a token's id say, does nothing to a terminal.
fn shown(cell: String) -> String {
    let is_plain = |c: char| !c.is_control();
    if cell.chars().all(is_plain) {
        return cell;
    }
    cell.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// Prints JSON as it is, or rows under a heading. A reader that has gone (`| head`) is no error.
pub fn print(output: Output, json: &Value, heading: &[&str], rows: Vec<Vec<String>>) {
    let text = match output {
        Output::Json => json.to_string(),
        Output::Table => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING).set_header(heading.to_vec());
            table.add_rows(rows.into_iter().map(|row| row.into_iter().map(shown)));
            table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        }
    };
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("weir: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}
