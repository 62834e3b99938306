//! A folder's files, as resources.

use crate::globals::Globals;
use crate::output::{Answer, Failure, Output, say, shown};
use crate::publication::{Counts, Publication, need};
use crate::tree::{Rules, Tree, place_within};
use crate::uri;
use crate::wake::Wake;
use crate::writing::StoreOptions;
use clap::Args;
use erlmcp_shm_writer::Recover;
use notify::RecommendedWatcher;
use rustix::io::Errno;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How soon it is noticed that the path names another folder.
const TICK: Duration = Duration::from_millis(200);
/// A burst of changes is over when nothing changed for so long.
const QUIET: Duration = Duration::from_millis(50);
const LONGEST_QUIET: Duration = Duration::from_secs(2);
/// Between two rounds where the system does not tell of changes.
const UNWATCHED: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = MAPPING)]
pub struct Publish {
    /// The folder
    dir: PathBuf,
    /// What the URIs begin with, before the path below DIR [default: file:// and DIR's path]
    #[arg(long, value_name = "URI")]
    prefix: Option<String>,
    /// Go on: publish what changes and is new, withdraw what goes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Also withdraw what the store holds under the prefix and DIR does not: what an earlier run published
    #[arg(long)]
    delete: bool,
    /// Also files and folders whose names begin with a dot
    #[arg(long)]
    hidden: bool,
    #[command(flatten)]
    store: StoreOptions,
}

const MAPPING: &str = "\
The URI of DIR/a b.txt is the prefix and a%20b.txt: letters, digits and -._~!$&'()*+,;=:@/ stand for themselves, any
other byte of a path is % and two hex digits. The media type is told by the file's ending.
Links are followed to files within DIR only. A file that is published already as it is makes no new version.";

impl Publish {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let wake = Wake::new().map_err(|error| Failure::Input(error.to_string()))?;
        let rules = Rules {
            hidden: self.hidden,
            store: place_within(&self.dir, &globals.path),
        };
        let folder =
            Folder::open(&self.dir, self.watch, &wake).map_err(|errno| self.failed(errno))?;
        let listing = folder
            .tree
            .list(&rules)
            .map_err(|errno| self.failed(errno))?;
        let prefix = self.prefix()?;
        let need = need(&listing, &prefix);
        let writer = self.store.open(globals, need, Recover::Keep)?;
        let mut publication = Publication::new(writer, globals.open()?, prefix);
        if self.delete {
            publication.adopt()?;
        }
        let start = Instant::now();
        let counts = publication.round(&folder.tree, listing, &wake)?;
        let mut log = Log::new(globals.json);
        log.write(&counts, start.elapsed())?;
        if self.watch {
            self.follow(folder, &rules, publication, &wake, &mut log)?;
            return Ok(Answer::Yes);
        }
        if wake.is_over() {
            say("interrupted: what was published until then stays");
            return Ok(Answer::No);
        }
        Ok(match counts.failed {
            0 => Answer::Yes,
            _ => Answer::No,
        })
    }

    fn prefix(&self) -> Result<String, Failure> {
        match &self.prefix {
            Some(prefix) => Ok(uri::with_slash(prefix.clone())),
            None => {
                let absolute = self.dir.canonicalize();
                let absolute = absolute
                    .map_err(|error| Failure::Input(format!("{}: {error}", shown(&self.dir))))?;
                Ok(uri::of_folder(&absolute))
            }
        }
    }

    fn failed(&self, errno: Errno) -> Failure {
        Failure::Input(format!("{}: {}", shown(&self.dir), io::Error::from(errno)))
    }

    /// A round after each change, until a signal comes.
    fn follow(
        &self,
        mut folder: Folder,
        rules: &Rules,
        mut publication: Publication,
        wake: &Wake,
        log: &mut Log,
    ) -> Result<(), Failure> {
        let mut took = QUIET;
        let mut lost = None;
        while self.wait(&folder, &publication, wake, took)? {
            let start = Instant::now();
            let listed = folder
                .follow_path(&self.dir, wake)
                .and_then(|()| folder.tree.list(rules));
            match listed {
                Ok(listing) => {
                    lost = None;
                    let counts = publication.round(&folder.tree, listing, wake)?;
                    if counts.published + counts.withdrawn > 0 {
                        log.write(&counts, start.elapsed())?;
                    }
                }
                Err(errno) => {
                    if lost.replace(errno) != Some(errno) {
                        let dir = shown(&self.dir);
                        let error = io::Error::from(errno);
                        say(format_args!(
                            "{dir}: {error}; what is published stays; waiting for it"
                        ));
                    }
                }
            }
            took = start.elapsed();
        }
        Ok(())
    }

    /// Until there may be something to do; `false`: a signal came.
    fn wait(
        &self,
        folder: &Folder,
        publication: &Publication,
        wake: &Wake,
        took: Duration,
    ) -> Result<bool, Failure> {
        let start = Instant::now();
        while !wake.is_over() {
            if wake.wait(TICK) {
                // A burst is one round; and a round after another takes half of the time at most.
                wake.settle(took.clamp(QUIET, LONGEST_QUIET));
                break;
            }
            publication.check()?;
            let unwatched = folder.watcher.is_none() && start.elapsed() >= UNWATCHED;
            if unwatched || !folder.is_at(&self.dir) {
                break;
            }
        }
        Ok(!wake.is_over())
    }
}

/// The folder that the path named when it was last looked at.
struct Folder {
    tree: Tree,
    id: (u64, u64),
    watched: bool,
    watcher: Option<RecommendedWatcher>,
}

impl Folder {
    fn open(path: &Path, watched: bool, wake: &Wake) -> Result<Self, Errno> {
        let tree = Tree::open(path)?;
        Ok(Self {
            id: tree.id()?,
            tree,
            watched,
            // Before anybody looks into it: what changes from then on is heard.
            watcher: watched.then(|| wake.watch(path)).flatten(),
        })
    }

    fn is_at(&self, path: &Path) -> bool {
        let there = Tree::open(path).and_then(|tree| tree.id());
        there.is_ok_and(|id| id == self.id)
    }

    /// Where a link, or a name, came to stand for another folder, that one.
    fn follow_path(&mut self, path: &Path, wake: &Wake) -> Result<(), Errno> {
        if Tree::open(path)?.id()? != self.id {
            *self = Self::open(path, self.watched, wake)?;
        }
        Ok(())
    }
}

/// Stdout: a line a round.
struct Log {
    out: Output,
    json: bool,
}

#[derive(Serialize)]
struct JsonRound<'a> {
    #[serde(flatten)]
    counts: &'a Counts,
    took_ms: u64,
}

impl Log {
    fn new(json: bool) -> Self {
        let out = Output::new();
        Self { out, json }
    }

    fn write(&mut self, counts: &Counts, took: Duration) -> Result<(), Failure> {
        let Counts {
            published,
            published_bytes,
            unchanged,
            withdrawn,
            skipped,
            failed,
        } = counts;
        if self.json {
            let took_ms = took.as_millis().try_into().unwrap_or(u64::MAX);
            self.out.json(&JsonRound { counts, took_ms })?;
        } else {
            self.out.line(format_args!(
                "published {published} ({published_bytes} bytes), unchanged {unchanged}, withdrawn {withdrawn}, \
                 skipped {skipped}, failed {failed}, in {:.2} s",
                took.as_secs_f64()
            ))?;
        }
        Ok(self.out.flush()?)
    }
}
