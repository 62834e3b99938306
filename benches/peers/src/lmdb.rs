//! LMDB through heed, on the same file system.

use std::path::Path;

use erlmcp_shm_benches::touch;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};

use crate::peer::Peer;

type Table = Database<Bytes, Bytes>;

/// The environment in this folder, made where there is none. It syncs nothing: neither do we.
pub fn opened(folder: &Path) -> (Env<WithoutTls>, Table) {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(8 << 30);
    // SAFETY: only this program, by this function, opens or changes the folder, which was made for it.
    let env = unsafe {
        options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP);
        options.open(folder).expect("an environment")
    };
    let mut txn = env.write_txn().expect("a writer at a time");
    let table = env.create_database(&mut txn, None).expect("a table");
    txn.commit().expect("room");
    (env, table)
}

/// With the keys and values in it.
pub fn filled(folder: &Path, keys: &[Vec<u8>], len: usize) -> (Env<WithoutTls>, Table) {
    let (env, table) = opened(folder);
    let mut txn = env.write_txn().expect("the only writer");
    for (i, key) in keys.iter().enumerate() {
        table.put(&mut txn, key, &vec![i as u8; len]).expect("room");
    }
    txn.commit().expect("room");
    (env, table)
}

/// A read transaction for each lookup: as fresh as ours.
pub struct Lmdb(pub Env<WithoutTls>, pub Table);

impl Peer for Lmdb {
    fn name(&self) -> &'static str {
        "LMDB, a transaction each"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        let txn = self.0.read_txn().expect("a reader's slot");
        touch(self.1.get(&txn, key).expect("readable").expect("present"))
    }
}

/// One read transaction, which sees nothing that comes after it.
pub struct LmdbKept(pub RoTxn<'static, WithoutTls>, pub Table);

impl Peer for LmdbKept {
    fn name(&self) -> &'static str {
        "LMDB, one transaction (stale)"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        touch(
            self.1
                .get(&self.0, key)
                .expect("readable")
                .expect("present"),
        )
    }
}
