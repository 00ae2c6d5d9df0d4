//! A file of entries that anybody may carry: Ada writes it, a courier copies it, Cleo reads it and sees who wrote what.
#![expect(clippy::disallowed_methods, clippy::std_instead_of_core, reason = "a program, not a library")]

use std::{env, error::Error, fs, fs::File, io::Write as _, path::Path, process, time::SystemTime};

use consilience::sync::{Keypair, MeshSecret, Topic};
use consilience::{Config, Opened, Replica, crdts::Timestamp};

fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map(|()| bytes)
}

/// Makes durable what a replica has to remember. What it wrote does not leave before.
fn store(replica: &mut Replica, journal: &Path) -> Result<(), Box<dyn Error>> {
    let mut journal = File::options().create(true).append(true).open(journal)?;
    while let Some(record) = replica.poll_record() {
        journal.write_all(record.as_bytes())?;
        journal.sync_data()?;
        replica.confirm(record.id())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = || Timestamp::from(SystemTime::now());
    let mesh = MeshSecret::from_bytes(random()?); // shared by the members; the courier need not be one
    let folder = env::temp_dir().join(format!("consilience-bundle-{}", process::id()));
    fs::create_dir(&folder)?;
    let (written, carried) = (folder.join("from-ada"), folder.join("to-cleo"));

    let mut ada = Replica::open(Config::new(mesh, random()?), Opened::Fresh, now())?;
    let writer = ada.add_writer(Keypair::from_seed(random()?))?;
    let mut tx = ada.transact(writer, "team/planning", now())?;
    tx.map("tasks").set("t1", "draft the plan")?;
    tx.commit()?;
    store(&mut ada, &folder.join("ada.journal"))?;
    fs::write(&written, ada.export_bundle(|_| true, None, now())?)?;

    fs::copy(&written, &carried)?; // by mail, on a stick, through whoever comes along

    let mut cleo = Replica::open(Config::new(mesh, random()?), Opened::Fresh, now())?;
    let imported = cleo.import_bundle(&fs::read(&carried)?, now())?;
    store(&mut cleo, &folder.join("cleo.journal"))?;
    fs::remove_dir_all(&folder)?;

    let task = cleo.topic("team/planning")?.map("tasks").get("t1").ok_or("the task did not come")?;
    assert_eq!((imported.entries, task.value, task.author), (1, &b"draft the plan"[..], writer.id()));
    let topic = Topic::new("team/planning")?;
    assert_eq!(ada.digest(&topic), cleo.digest(&topic), "the digests differ");
    println!(
        "bundle: carried, by {:?}, and both digests are {:02x?}",
        task.author,
        &cleo.digest(&topic)[..4]
    );
    Ok(())
}
