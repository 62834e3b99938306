// Everything that a reader can be asked about a file, whatever the file is. Shared by the tests and the
// fuzz targets.

use crate::support;
use erlmcp_shm_layout::checksum;
use erlmcp_shm_reader::{Entry, Kind, ReadError, Reader, View};
use std::path::Path;
use std::time::{Duration, Instant};

/// No lookup takes longer, whatever the file.
const BOUND: Duration = Duration::from_millis(1);

type Found = Result<Option<(Vec<u8>, u64)>, ReadError>;

/// Says whether the file at `folder` that is made of `bytes` could be opened.
pub fn exercise(folder: &Path, bytes: &[u8]) -> bool {
    let path = folder.join("store.bin");
    support::save(&path, bytes);
    match [false, true].map(|pread| in_mode(&path, pread)) {
        [Ok(mapped), Ok(pread)] => {
            // Pread mode refuses more, for it verifies checksums; what it does not refuse is the same.
            for (mapped, pread) in mapped.into_iter().zip(pread) {
                assert!(pread.is_err() || pread == mapped, "{pread:?}, {mapped:?}");
            }
            true
        }
        [mapped, pread] => {
            // What open says does not depend on the mode.
            assert_eq!(mapped.err(), pread.err());
            false
        }
    }
}

/// What was found of each key.
fn in_mode(path: &Path, pread: bool) -> Result<Vec<Found>, ReadError> {
    let options = Reader::options().pread(pread).prefault(true);
    let shm = options.watcher(false).open(path)?;
    let _ = (shm.liveness().verdict(), shm.heartbeat_seen());
    // Of a mapping they say how much of it has huge pages, for which the system looks through all memory of the
    // process: under a sanitizer that takes longer than everything else here.
    let _ = pread.then(|| shm.stats());
    let _ = (
        shm.changes(),
        shm.wait_for_change(0, Duration::ZERO),
        shm.verify(),
    );
    let mut view = shm.view()?;
    view.refresh(&shm)?;
    assert!(view.is_current());
    let _ = (view.generation(), view.store_id(), format!("{view:?}"));

    let entries: Vec<_> = view.try_iter().collect();
    let sound = entries.iter().filter(|entry| entry.is_ok()).count();
    assert_eq!(view.iter().count(), sound);
    let mut keys = keys();
    for entry in entries.into_iter().flatten() {
        keys.push((entry.kind(), entry.key().to_vec()));
        look(entry);
    }
    let found: Vec<Found> = keys
        .iter()
        .map(|(kind, key)| timed(&view, *kind, key))
        .collect();
    for ((kind, key), found) in keys.iter().zip(&found) {
        let bytes = shm.get_bytes(*kind, key);
        let data = found.as_ref().map(|found| found.as_ref().map(|f| &f.0[..]));
        assert_eq!(bytes.as_ref().map(Option::as_deref), data);
    }
    let many = view.get_many(&keys).into_iter();
    let many: Vec<Found> = many.map(|entry| Ok(entry?.map(look))).collect();
    assert_eq!(many, found);
    // Those that were met may be others in the other mode.
    Ok(found.into_iter().take(self::keys().len()).collect())
}

/// The keys of the image, and some that it does not have.
fn keys() -> Vec<(Kind, Vec<u8>)> {
    let mut keys: Vec<(Kind, Vec<u8>)> = (0..20u8)
        .map(|i| (Kind::ALL[usize::from(i) % 4], vec![i, 1]))
        .collect();
    keys.extend([(Kind::Resource, b"x".to_vec()), (Kind::Prompt, vec![])]);
    keys.extend([
        (Kind::Capability, vec![0; 7]),
        (Kind::ToolSchema, vec![1; 65_536]),
    ]);
    keys
}

/// Touches every byte of an entry; its data and version.
fn look(entry: Entry<'_>) -> (Vec<u8>, u64) {
    let parts = [entry.key(), entry.data(), entry.metadata()];
    let _ = checksum(&parts.concat());
    assert_eq!(entry.to_bytes(), entry.data());
    assert_eq!(entry.metadata_to_bytes(), entry.metadata());
    let _ = (entry.expires_at(), entry.is_expired(), entry.scope());
    let _ = format!("{entry:?}");
    let version = entry.version();
    (entry.into_data().into_owned(), version)
}

/// A lookup that takes too long is repeated at once: that it was the machine and not the file shows in
/// one of the repetitions.
fn timed(view: &View, kind: Kind, key: &[u8]) -> Found {
    let slow = || {
        let start = Instant::now();
        let _ = std::hint::black_box(view.get(kind, key));
        start.elapsed() > BOUND
    };
    assert!(!(0..20).all(|_| slow()), "a slow lookup of {key:?}");
    Ok(view.get(kind, key)?.map(look))
}
