//! The least that a login by key and a registration are: one signature checked, one row on disk.

use std::{io, path::Path, thread};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::Connection;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

/// Rows of one transaction, as with the product.
const TOGETHER: usize = 64;
/// About what a registered Ed25519 key takes, or a session.
const ROW: usize = 200;

/// What is looked at of a request; the challenge is for one that brings neither proof.
#[derive(Deserialize)]
struct Args {
    encrypted_string: Option<String>,
    proof: Option<String>,
    pub_key: Option<String>,
}

/// What was said to sign.
#[derive(Deserialize)]
struct Challenge {
    context: String,
    test_string: String,
}

/// Its name, and who waits for it to be on disk.
type Row = ([u8; 16], oneshot::Sender<()>);

pub(super) struct Commits {
    rows: mpsc::Sender<Row>,
    key: Vec<u8>,
    message: Vec<u8>,
}

impl Commits {
    pub(super) fn open(directory: &Path, key: &str, challenge: &str) -> io::Result<Self> {
        let challenge: Challenge = serde_json::from_str(challenge)?;
        let message = format!("{}\n{}", challenge.context, challenge.test_string).into_bytes();
        let database = Connection::open(directory.join("toy.sqlite")).map_err(io::Error::other)?;
        database.pragma_update(None, "journal_mode", "WAL").map_err(io::Error::other)?;
        database.pragma_update(None, "synchronous", "FULL").map_err(io::Error::other)?;
        database
            .execute_batch("CREATE TABLE toy (name BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID")
            .map_err(io::Error::other)?;
        let (rows, queue) = mpsc::channel(1_024);
        thread::spawn(move || write(&database, queue));
        let key = STANDARD.decode(key).map_err(io::Error::other)?;
        Ok(Self { rows, key, message })
    }

    pub(super) async fn take(&self, args: &[u8]) -> io::Result<()> {
        let args: Args = serde_json::from_slice(args)?;
        let Some(signature) = args.encrypted_string.or(args.proof) else { return Ok(()) };
        let signature = STANDARD.decode(signature).map_err(io::Error::other)?;
        let key = match args.pub_key {
            Some(key) => STANDARD.decode(key).map_err(io::Error::other)?,
            None => self.key.clone(),
        };
        // The key is the end of its SubjectPublicKeyInfo.
        let key = key.last_chunk::<32>().ok_or(io::ErrorKind::InvalidData)?;
        let valid = UnparsedPublicKey::new(&ED25519, key).verify(&self.message, &signature);
        valid.map_err(|_| io::Error::other("the signature is wrong"))?;
        let mut name = [0; 16];
        aws_lc_rs::rand::fill(&mut name).map_err(io::Error::other)?;
        let (done, written) = oneshot::channel();
        self.rows.send((name, done)).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        written.await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What waits is one transaction. An error ends the thread, and with it every request.
fn write(database: &Connection, mut queue: mpsc::Receiver<Row>) -> rusqlite::Result<()> {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < TOGETHER
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        database.execute_batch("BEGIN IMMEDIATE")?;
        for (name, _) in &batch {
            let row = [0_u8; ROW];
            database.prepare_cached("INSERT INTO toy VALUES (?1, ?2)")?.execute((name, row))?;
        }
        database.execute_batch("COMMIT")?;
        for (_, done) in batch {
            // Whoever hung up does not wait.
            let _ = done.send(());
        }
    }
    Ok(())
}
