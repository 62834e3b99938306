//! The blackboard of iceoryx2: keys fixed when it is made, values of one type and size.

use erlmcp_shm_benches::touch;
use std::collections::HashMap;
use std::path::Path;

use iceoryx2::port::reader::{EntryHandle, Reader};
use iceoryx2::port::writer::{EntryHandleMut, Writer};
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::blackboard::PortFactory;

use crate::peer::Peer;

/// What it can hold: the values of this size.
pub const VALUE: usize = 1 << 10;
/// Bytes of a key, which is filled up with zeros.
const KEY: usize = 48;

type Key = [u8; KEY];

type Value = EntryHandle<ipc::Service, Key, [u8; VALUE]>;

type Failure = Box<dyn std::error::Error>;

/// A blackboard, made, and its one writer with a handle of each entry.
pub struct Made {
    values: Vec<EntryHandleMut<ipc::Service, Key, [u8; VALUE]>>,
    /// Held for their drop.
    _writer: Writer<ipc::Service, Key>,
    _service: PortFactory<ipc::Service, Key>,
    _node: Node<ipc::Service>,
}

impl Made {
    /// One with all keys, by this name; what iceoryx2 says where it cannot make it.
    pub fn new(name: &Path, keys: &[Vec<u8>]) -> Result<Self, Failure> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = name.to_str().ok_or("a name is text")?;
        let mut service = node
            .service_builder(&name.try_into()?)
            .blackboard_creator::<Key>();
        for (i, key) in keys.iter().enumerate() {
            service = service.add::<[u8; VALUE]>(fixed(key), [i as u8; VALUE]);
        }
        let service = service.create()?;
        let writer = service.writer_builder().create()?;
        let handle = |key: &Vec<u8>| Ok(writer.entry::<[u8; VALUE]>(&fixed(key))?);
        let values: Result<_, Failure> = keys.iter().map(handle).collect();
        Ok(Self {
            values: values?,
            _writer: writer,
            _service: service,
            _node: node,
        })
    }

    /// Replaces a value.
    pub fn put(&mut self, i: usize, value: &[u8]) {
        self.values[i].update_with_copy(value.try_into().expect("of this size"));
    }
}

/// A reader of a blackboard. Finding an entry there takes some 20 us, so a handle of each is kept, as its users are meant
/// to do; what is measured finds the handle and reads through it.
pub struct Blackboard {
    values: HashMap<Key, Value>,
    /// Held for their drop.
    _reader: Reader<ipc::Service, Key>,
    _service: PortFactory<ipc::Service, Key>,
    _node: Node<ipc::Service>,
}

fn fixed(key: &[u8]) -> Key {
    let mut fixed = [0; KEY];
    fixed[..key.len()].copy_from_slice(key);
    fixed
}

impl Blackboard {
    /// Of the one by this name.
    pub fn over(name: &Path, keys: &[Vec<u8>]) -> Result<Self, Failure> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = name.to_str().ok_or("a name is text")?;
        let service = node
            .service_builder(&name.try_into()?)
            .blackboard_opener::<Key>()
            .open()?;
        let reader = service.reader_builder().create()?;
        let handle = |key: &Vec<u8>| Ok((fixed(key), reader.entry::<[u8; VALUE]>(&fixed(key))?));
        let values: Result<_, Failure> = keys.iter().map(handle).collect();
        Ok(Self {
            values: values?,
            _reader: reader,
            _service: service,
            _node: node,
        })
    }
}

impl Peer for Blackboard {
    fn name(&self) -> &'static str {
        "iceoryx2 blackboard"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        let value = self.values.get(&fixed(key)).expect("present");
        touch(&*value.get())
    }
}
