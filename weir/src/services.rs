//! `weir placement`, `weir storage-node`, `weir gateway`: one service per process.

use std::net::SocketAddr;
use std::time::Duration;

use placement::StoreAt;
use service::drain::{self, DrainHandle};
use storage_node::{Settings, StorageNode};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{GatewayOptions, PlacementOptions, StorageNodeOptions};
use crate::output::Failure;

/// How long what is under way may take once the drain has begun.
const DRAIN: Duration = Duration::from_millis(500);

/// Refuses addresses beyond loopback unless that was asked for by name.
pub fn check_bind(addresses: &[SocketAddr], is_allowed: bool) -> Result<(), Failure> {
    for address in addresses {
        if !address.ip().is_loopback() {
            if !is_allowed {
                return Err(Failure::usage(format!(
                    "{address} is reachable from other machines and nobody is authenticated; --insecure-bind allows it"
                )));
            }
            tracing::warn!(%address, "reachable from other machines, and nobody is authenticated");
        }
    }
    Ok(())
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| Failure::failed(format!("{address}: {error}")))
}

/// Returns at SIGTERM or SIGINT, after the drain.
pub async fn until_ended(handle: DrainHandle) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    handle.begin();
    tokio::time::sleep(DRAIN).await;
    Ok(())
}

/// The store that `redb:DIR` or `etcd:URL[,URL]` names.
pub fn store_at(store: &str) -> Result<StoreAt, Failure> {
    let wrong = || Failure::usage(format!("`{store}` is no metadata store: redb:DIR and etcd:URL[,URL] are"));
    match store.split_once(':') {
        Some(("redb", dir)) if !dir.is_empty() => Ok(StoreAt::Redb(dir.into())),
        Some(("etcd", urls)) => {
            let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
            let is_url =
                |url: &String| url.strip_prefix("http://").is_some_and(|rest| !rest.trim_matches('/').is_empty());
            if urls.iter().all(is_url) { Ok(StoreAt::Etcd(urls)) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

pub async fn placement(options: PlacementOptions) -> Result<(), Failure> {
    check_bind(&[options.listen], options.insecure_bind)?;
    let store = store_at(&options.store)?;
    let listener = bind(options.listen).await?;
    let (handle, drain) = drain::channel();
    placement::start(store, Duration::from_secs(options.park_after), listener, drain)
        .await
        .map_err(|error| Failure::failed(error.to_string()))?;
    println!("placement is ready");
    until_ended(handle).await
}

pub async fn storage_node(options: StorageNodeOptions) -> Result<(), Failure> {
    check_bind(&[options.listen, options.admin], options.insecure_bind)?;
    let listener = bind(options.listen).await?;
    let admin = bind(options.admin).await?;
    let name = options.name.unwrap_or_else(|| format!("{}-{}", options.az, options.listen.port()));
    let settings = Settings {
        name,
        az: options.az,
        data: options.data,
        advertise: options.advertise.unwrap_or_else(|| options.listen.to_string()),
        placement: options.placement,
    };
    let (handle, drain) = drain::channel();
    let node = StorageNode::start(settings, listener, admin, drain).await;
    let node = node.map_err(|error| Failure::failed(error.to_string()))?;
    tracing::info!(direct = node.is_direct(), flush_us = node.flush_us(), "the journal is open");
    println!("storage-node is ready");
    until_ended(handle).await?;
    node.close();
    Ok(())
}

pub async fn gateway(options: GatewayOptions) -> Result<(), Failure> {
    check_bind(&[options.kafka, options.http], options.insecure_bind)?;
    let advertise = options.advertise_kafka.unwrap_or_else(|| options.kafka.to_string());
    let (host, port) = advertise
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)))
        .ok_or_else(|| Failure::usage(format!("`{advertise}` is not HOST:PORT")))?;
    let (kafka, http) = (bind(options.kafka).await?, bind(options.http).await?);
    let settings = gateway::Settings {
        az: options.az,
        advertise_host: host,
        advertise_port: port,
        placement: options.placement,
        data: options.data,
    };
    let (handle, drain) = drain::channel();
    gateway::start(settings, kafka, http, drain).await?;
    println!("gateway is ready");
    until_ended(handle).await
}
