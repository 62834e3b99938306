//! Walking over the slots.

use crate::ReadError;
use crate::entry::Entry;
use crate::generation::{Generation, patiently};
use std::sync::Arc;

/// The live entries of a view, each with what may have gone wrong with it; made by
/// [`View::try_iter`](crate::View::try_iter).
#[derive(Clone, Debug)]
pub struct TryIter<'a> {
    generation: &'a Arc<Generation>,
    position: usize,
}

impl<'a> TryIter<'a> {
    pub(crate) fn new(generation: &'a Arc<Generation>) -> Self {
        Self {
            generation,
            position: 0,
        }
    }
}

impl<'a> Iterator for TryIter<'a> {
    type Item = Result<Entry<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while (self.position as u64) < self.generation.header.slot_count {
            let position = self.position;
            self.position += 1;
            if let Some(item) = patiently(|| self.generation.entry_at(position)).transpose() {
                return Some(item);
            }
        }
        None
    }
}

impl std::iter::FusedIterator for TryIter<'_> {}

/// The live entries of a view; made by [`View::iter`](crate::View::iter).
#[derive(Clone, Debug)]
pub struct Iter<'a>(TryIter<'a>);

impl<'a> Iter<'a> {
    pub(crate) fn new(generation: &'a Arc<Generation>) -> Self {
        Self(TryIter::new(generation))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.0.by_ref().flatten().next()
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
