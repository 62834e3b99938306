//! Waiting for a change.

use crate::sys::{futex_wait, poll_pause};
use crate::{ReadError, Reader};
use std::time::{Duration, Instant};

/// See [`Reader::wait_for_change`].
///
/// The counter is loaded before the sleep and compared by the kernel when the sleep begins, so a
/// change in between is not slept through. A switch bumps the old generation's counter and wakes
/// its sleepers. What wakes nobody, another store taking the path, is looked for between two slices
/// of sleep.
pub(crate) fn wait_for_change(
    reader: &Reader,
    since: u64,
    timeout: Duration,
) -> Result<Option<u64>, ReadError> {
    let start = Instant::now();
    loop {
        let view = reader.view()?;
        let generation = view.pinned();
        let in_file = generation.file_changes()?;
        let changes = in_file.wrapping_add(generation.changes_base);
        if changes != since {
            return Ok(Some(changes));
        }
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        let slice = left.min(reader.inner.options.refresh_interval);
        match generation.mapping() {
            Some(mapping) => futex_wait(mapping.futex(), in_file as u32, slice),
            None => poll_pause(slice),
        }
        drop(view);
        // No file at the path, or a bad one, while ours is not superseded: go on waiting.
        let _ = reader.inner.look_at_path();
    }
}
