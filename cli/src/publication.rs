//! What of a folder is in the store, and each round's difference.
//!
//! The store itself is asked what it holds, so a file that is published as it is makes no new version, in whichever
//! run it was published.

use crate::output::{Failure, refused, say, shown};
use crate::progress::{Progress, Unit};
use crate::tree::{Listing, Stamp, Tree, Trouble};
use crate::uri;
use crate::wake::Wake;
use crate::writing::{Alive, Need};
use erlmcp_shm_reader::{Kind, Reader, Scope};
use erlmcp_shm_writer::WriteError;
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Bytes of metadata, about.
const METADATA: u64 = 100;

pub struct Publication {
    writer: Alive,
    reader: Reader,
    /// What every URI begins with.
    prefix: String,
    /// What is ours to withdraw, by URI.
    ours: HashMap<Vec<u8>, Known>,
    round: u64,
    /// What was said of which file in this round, and in the one before.
    remarks: HashMap<PathBuf, String>,
    remarks_before: HashMap<PathBuf, String>,
}

struct Known {
    /// Of the file as it was published; `None`: it has to be read.
    stamp: Option<Stamp>,
    /// The last round that met the file.
    round: u64,
}

/// What a round did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub published: u64,
    pub published_bytes: u64,
    pub unchanged: u64,
    pub withdrawn: u64,
    /// What is no file: links that are not followed, sockets.
    pub skipped: u64,
    pub failed: u64,
}

/// How much a listing's files need.
pub fn need(listing: &Listing, prefix: &str) -> Need {
    let bytes = |(path, stamp): &(PathBuf, Stamp)| {
        // A URI may be three times as long as the path.
        stamp.size() + prefix.len() as u64 + 3 * path.as_os_str().len() as u64 + METADATA
    };
    Need {
        entries: listing.files.len() as u64,
        bytes: listing.files.iter().map(bytes).sum(),
    }
}

impl Publication {
    pub fn new(writer: Alive, reader: Reader, prefix: String) -> Self {
        Self {
            writer,
            reader,
            prefix,
            ours: HashMap::new(),
            round: 0,
            remarks: HashMap::new(),
            remarks_before: HashMap::new(),
        }
    }

    /// What the store holds under the prefix is ours, whoever published it.
    pub fn adopt(&mut self) -> Result<(), Failure> {
        for entry in self.reader.view()?.try_iter() {
            let entry = entry?;
            if entry.kind() == Kind::Resource && entry.key().starts_with(self.prefix.as_bytes()) {
                let known = Known {
                    stamp: None,
                    round: 0,
                };
                self.ours.insert(entry.key().to_vec(), known);
            }
        }
        Ok(())
    }

    /// Whether the store can be written still.
    pub fn check(&self) -> Result<(), Failure> {
        Ok(self.writer.check()?)
    }

    /// Brings the store up to what is listed. Ends early when it is asked to, and then withdraws nothing.
    pub fn round(&mut self, tree: &Tree, listing: Listing, wake: &Wake) -> Result<Counts, Failure> {
        self.round += 1;
        self.remarks_before = std::mem::take(&mut self.remarks);
        let mut counts = Counts::default();
        let whole = listing.is_whole();
        for (path, what) in &listing.skipped {
            counts.skipped += 1;
            self.remark(path, format!("{what}, not published"));
        }
        for (path, errno) in &listing.failed {
            counts.failed += 1;
            self.remark(path, std::io::Error::from(*errno).to_string());
        }
        let mut progress = Progress::new("publishing", Unit::Count);
        let total = listing.files.len() as u64;
        for (n, (path, stamp)) in listing.files.iter().enumerate() {
            if wake.is_over() {
                return Ok(counts);
            }
            self.writer.check()?;
            self.file(tree, path, stamp, &mut counts)?;
            progress.at(n as u64 + 1, Some(total));
        }
        drop(progress);
        if whole {
            self.withdraw(&mut counts)?;
        }
        self.writer.flush()?;
        Ok(counts)
    }

    fn file(
        &mut self,
        tree: &Tree,
        path: &Path,
        stamp: &Stamp,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let uri = format!("{}{}", self.prefix, uri::encoded(path.as_os_str()));
        if let Some(known) = self.ours.get_mut(uri.as_bytes()) {
            known.round = self.round;
            if known.stamp == Some(*stamp) {
                counts.unchanged += 1;
                return Ok(());
            }
        }
        // No more than can be put; and the lengths of entries are 32 bits.
        let at_most = (self.writer.stats().max_size / 2).min(u64::from(u32::MAX));
        match tree.read(path, at_most) {
            Ok((data, stamp)) => {
                let published = self.put(&uri, path, &data);
                match published {
                    Ok(true) => {
                        counts.published += 1;
                        counts.published_bytes += data.len() as u64;
                    }
                    Ok(false) => counts.unchanged += 1,
                    Err(Failure::Write(error)) if is_of_the_entry(error) => {
                        counts.failed += 1;
                        let store = self.writer.path().to_owned();
                        self.remark(path, refused(error, &store));
                        return Ok(());
                    }
                    Err(failure) => return Err(failure),
                }
                let round = self.round;
                self.ours.insert(uri.into_bytes(), Known { stamp, round });
            }
            // Then the next round does not meet it.
            Err(Trouble::Gone) => {
                if let Some(known) = self.ours.get_mut(uri.as_bytes()) {
                    known.round = 0;
                }
            }
            Err(trouble) => {
                counts.failed += 1;
                self.remark(path, explained(&trouble, at_most));
            }
        }
        Ok(())
    }

    /// Whether there was anything to publish.
    fn put(&self, uri: &str, path: &Path, data: &[u8]) -> Result<bool, Failure> {
        let metadata = metadata(path, data);
        if let Some(entry) = self.reader.view()?.get(Kind::Resource, uri)?
            && (entry.data(), entry.metadata()) == (data, &metadata)
            && (entry.expires_at(), entry.scope()) == (None, Scope::Public)
        {
            return Ok(false);
        }
        self.writer
            .put(Kind::Resource, uri.as_bytes(), data, &metadata)?;
        Ok(true)
    }

    /// Withdraws what this round did not meet.
    fn withdraw(&mut self, counts: &mut Counts) -> Result<(), Failure> {
        let round = self.round;
        for (uri, _) in self.ours.extract_if(|_, known| known.round != round) {
            if self.writer.delete(Kind::Resource, &uri)?.is_some() {
                counts.withdrawn += 1;
            }
        }
        Ok(())
    }

    /// Says something of a file, unless it was said in the round before.
    fn remark(&mut self, path: &Path, text: String) {
        if self.remarks_before.get(path) != Some(&text) {
            say(format_args!("{}: {text}", shown(path)));
        }
        self.remarks.insert(path.into(), text);
    }
}

/// Whether others may be put all the same.
fn is_of_the_entry(error: WriteError) -> bool {
    use WriteError::*;
    matches!(error, KeyTooLarge | TooLarge | NoSpace | Io(_))
}

fn explained(trouble: &Trouble, at_most: u64) -> String {
    match trouble {
        Trouble::TooLarge(bytes) => {
            format!("too large: {bytes} bytes, at most {at_most} fit (half of --max-size)")
        }
        Trouble::Changing => "written to all the while, not published".into(),
        Trouble::Gone => "removed".into(),
        Trouble::System(error) => error.to_string(),
    }
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'a str>,
}

/// The file's name, and its type if its ending tells one.
fn metadata(path: &Path, data: &[u8]) -> Vec<u8> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let told = mime_guess::from_path(path).first();
    // Endings such as .ts are of films and of programs: what is text is no film.
    let of_media = |mime: &mime_guess::Mime| matches!(mime.type_().as_str(), "audio" | "video");
    let told = told.filter(|mime| !(of_media(mime) && str::from_utf8(data).is_ok()));
    let metadata = Metadata {
        name: &name,
        mime_type: told.as_ref().map(AsRef::as_ref),
    };
    serde_json::to_vec(&metadata).expect("strings are JSON")
}

#[cfg(test)]
mod tests {
    use super::metadata;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn of_files() {
        let told = |name: &[u8], data: &[u8]| {
            let path = Path::new("below").join(OsStr::from_bytes(name));
            String::from_utf8(metadata(&path, data)).unwrap()
        };
        assert_eq!(
            told(b"a.txt", b""),
            r#"{"name":"a.txt","mime_type":"text/plain"}"#
        );
        assert_eq!(
            told(b"x.json", b"{}"),
            r#"{"name":"x.json","mime_type":"application/json"}"#
        );
        assert_eq!(told(b"Makefile", b""), r#"{"name":"Makefile"}"#);
        assert_eq!(told(b"a.ts", b"let x = 1;"), r#"{"name":"a.ts"}"#);
        assert!(told(b"a.ts", b"\x47\xff").contains("video/"));
        assert_eq!(told(b"\xff\"", b""), "{\"name\":\"\u{fffd}\\\"\"}");
    }
}
