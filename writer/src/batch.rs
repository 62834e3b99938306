//! Several changes in one call: a few holds of the lock instead of one each, and misses that overlap.

use crate::shared::Locked;
use crate::{BatchError, Op, WriteError, Writer};

/// Bytes of a batch written in one hold of the lock, give or take one record.
const BATCH_HOLD: u64 = 64 << 10;

impl Writer {
    /// Makes several changes, in order, each of which appears atomically. All are checked before
    /// the first is made.
    ///
    /// # Errors
    /// The position of the change that failed, and why. See [`BatchError`] for what was written.
    pub fn put_batch(&self, ops: &[Op<'_>]) -> Result<(), BatchError> {
        let at = |index| move |error| BatchError { index, error };
        for (index, op) in ops.iter().enumerate() {
            op.check(&self.shared().limits).map_err(at(index))?;
        }
        let mut done = 0;
        while done < ops.len() {
            let mut state = self.shared().lock();
            let result = self.hold(&mut state, ops, &mut done);
            // Also of a batch that ended half way.
            self.settle(&mut state);
            state.unlock_fair();
            result.map_err(at(done))?;
        }
        Ok(())
    }

    /// Makes the changes from `done` on, as many as one hold of the lock may take.
    fn hold(
        &self,
        state: &mut Locked<'_>,
        ops: &[Op<'_>],
        done: &mut usize,
    ) -> Result<(), WriteError> {
        let mut bytes = 0;
        while *done < ops.len() && bytes < BATCH_HOLD {
            // Their misses overlap with the changes before them.
            if let Some(op) = ops.get(*done + 2) {
                state.fetch_slot(op);
            }
            if let Some(op) = ops.get(*done + 1) {
                state.fetch_old_key(op);
            }
            let op = &ops[*done];
            self.wait_for(state, op)?;
            bytes += op.record_bytes();
            *done += 1;
        }
        Ok(())
    }
}
