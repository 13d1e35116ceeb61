//! The one binary: command line, configuration, process wiring.

mod bench;
mod certs;
mod cli;
mod client;
mod commands;
mod config;
mod credentials;
mod kafka_client;
mod output;
mod services;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{CertsCommand, Cli, Command, PlacementOptions};
use crate::output::Failure;

/// A fifth more small records per second than with the C library's (docs/adr/0006-fewer-wake-ups.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match config::layered(std::env::args().collect()) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("weir: {message}");
            return ExitCode::from(2);
        }
    };
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    without_core_dumps();
    start_logging(matches!(cli.command, Command::Up(_)));
    let threads = worker_threads(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weir: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    // Tasks that block on a broken peer must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprintln!("weir: {message}");
            ExitCode::from(code)
        }
    }
}

/// Threads for tasks. For services and the bench half of the cores unless told: the kernel, the journal's thread and the other services need
/// theirs, and fewer threads do more at each wake-up.
fn worker_threads(command: &Command) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let told = match command {
        Command::Up(options) => options.threads,
        Command::Placement(options) => options.threads,
        Command::StorageNode(options) => options.threads,
        Command::Gateway(options) => options.threads,
        Command::Bench(_) => None,
        _ => return cores,
    };
    told.map_or((cores / 2).max(1), usize::from)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(options) => up::run(options).await,
        Command::Placement(PlacementOptions { command: Some(command), .. }) => commands::metadata::run(command).await,
        Command::Placement(options) => services::placement(options).await,
        Command::StorageNode(options) => services::storage_node(options).await,
        Command::Gateway(options) => services::gateway(options).await,
        Command::Topic(command) => commands::topic::run(command).await,
        Command::Group(command) => commands::group::run(command).await,
        Command::Produce(options) => commands::produce::run(options).await,
        Command::Consume(options) => commands::consume::run(options).await,
        Command::Status { target } => commands::operate::status(target).await,
        Command::Node(command) => commands::operate::node(command).await,
        Command::Partition(command) => commands::operate::partition(command).await,
        Command::Policy(command) => commands::policy::run(command).await,
        Command::Account(command) => commands::identity::accounts(command).await,
        Command::Cluster(command) => commands::identity::clusters(command).await,
        Command::User(command) => commands::identity::holders("users", command).await,
        Command::Role(command) => commands::identity::holders("roles", command).await,
        Command::Key(command) => commands::identity::keys(command).await,
        Command::Issuer(command) => commands::issuer::run(command).await,
        Command::Quota(command) => commands::quota::run(command).await,
        Command::Whoami { target } => commands::identity::whoami(&target).await,
        Command::Certs(CertsCommand::Dev { dir, host, node }) => certs::dev(&dir, &host, &node),
        Command::Certs(CertsCommand::Revoke { dir, cert }) => certs::revoke(&dir, &cert),
        Command::Bench(command) => bench::run(command).await,
        Command::Config(command) => config::run(&command),
        Command::Completion { shell } => {
            cli::completion(shell);
            Ok(())
        }
    }
}

/// What is in memory, keys and records among it, is not written to a disk when a process is killed: a soft limit, which `prlimit` lifts.
fn without_core_dumps() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the first writes one struct, the second reads it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) == 0 {
            limit.rlim_cur = 0;
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
    }
}

/// Logs go to stderr: one line an event, JSON when it is no terminal. `WEIR_LOG` filters, as `RUST_LOG` does.
fn start_logging(is_quiet: bool) {
    use std::io::IsTerminal as _;
    let default = if is_quiet { "warn" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.compact().init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
