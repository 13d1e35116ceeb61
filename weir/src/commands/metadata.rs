//! `weir placement backup|restore|rebuild`.

use std::path::Path;

use placement::restore::{Plan, RestoreError, Restored};
use serde_json::json;
use service::api::{Backup, PlacementClient};
use service::trust::Trust;

use crate::cli::{PlacementCommand, RestoreOptions, TrustOptions};
use crate::output::{Failure, print};
use crate::services::{check_placement, store_at};

pub async fn run(command: PlacementCommand) -> Result<(), Failure> {
    match command {
        PlacementCommand::Backup { file, placement, trust } => backup(&file, &placement, &trust).await,
        PlacementCommand::Restore { file, options } => {
            let text =
                std::fs::read(&file).map_err(|error| Failure::failed(format!("`{}`: {error}", file.display())))?;
            let backup: Backup = serde_json::from_slice(&text)
                .map_err(|error| Failure::failed(format!("`{}` is no backup: {error}", file.display())))?;
            restore(Some(backup), options).await
        }
        PlacementCommand::Rebuild { options } => restore(None, options).await,
    }
}

async fn backup(file: &Path, placement: &[String], trust: &TrustOptions) -> Result<(), Failure> {
    let files = trust.files();
    check_placement(placement, files.is_some())?;
    let trust = files.map(|files| Trust::open(&files, &[])).transpose().map_err(Failure::failed)?;
    let backup = PlacementClient::new(placement, trust.as_ref()).backup().await?;
    let text = serde_json::to_vec(&backup).expect("a backup is plain data");
    // Whole, or not there: an older backup under this name stays until then.
    let new = file.with_extension("new");
    let written = std::fs::write(&new, text)
        .and_then(|()| std::fs::File::open(&new)?.sync_all())
        .and_then(|()| std::fs::rename(&new, file));
    written.map_err(|error| Failure::failed(format!("`{}`: {error}", file.display())))?;
    eprintln!("{} keys at revision {} are in `{}`", backup.entries.len(), backup.revision, file.display());
    Ok(())
}

async fn restore(backup: Option<Backup>, options: RestoreOptions) -> Result<(), Failure> {
    let plan = Plan {
        store: store_at(&options.store)?,
        backup,
        nodes: options.node.clone(),
        without: options.without.clone(),
        accepts_loss: options.accept_loss,
        is_dry_run: options.dry_run,
        trust: options.trust.files(),
    };
    let restored = placement::restore::run(plan, |text| eprintln!("{text}")).await.map_err(|error| match error {
        RestoreError::Refused(why) => Failure::failed(why),
        RestoreError::Store(error) => Failure::unreachable(error.to_string()),
    })?;
    show(&restored, &options)
}

fn show(restored: &Restored, options: &RestoreOptions) -> Result<(), Failure> {
    let Restored { generation, nodes, topics, partitions, segments, unnamed, changed, absent, holes } = restored;
    let numbers =
        [generation.0 as usize, *nodes, *topics, *partitions, *segments, *unnamed, *changed, absent.len(), holes.len()];
    let heading = [
        "GENERATION",
        "NODES",
        "TOPICS",
        "PARTITIONS",
        "SEGMENTS",
        "UNNAMED TOPICS",
        "NEWER THAN BACKUP",
        "OFFLINE",
        "HOLES",
    ];
    print(options.output, &json!(restored), &heading, vec![numbers.map(|number| number.to_string()).to_vec()]);
    absent.iter().for_each(|absent| eprintln!("no intact copy answered: {absent}"));
    holes.iter().for_each(|hole| eprintln!("on no storage node that answered: {hole}"));
    match options.dry_run {
        true if !absent.is_empty() || !holes.is_empty() => {
            return Err(Failure::failed("nothing was changed; without --accept-loss this is refused"));
        }
        true => eprintln!("nothing was changed"),
        false => {
            eprintln!("start placement with --store {}; storage nodes and gateways go on by themselves", options.store)
        }
    }
    Ok(())
}
