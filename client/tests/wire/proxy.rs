//! A TCP proxy that counts bytes, terminates TLS, and can be cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tokio_rustls::TlsAcceptor;

pub struct Proxy {
    pub address: SocketAddr,
    /// The certificate of a proxy that speaks TLS.
    pub pem: String,
    bytes: Arc<AtomicU64>,
    /// What clients sent, by connection.
    sent: Sent,
    cut: watch::Sender<bool>,
    reset: Arc<Notify>,
}

type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

impl Proxy {
    pub async fn plain(to: SocketAddr) -> Self {
        Self::start(to, None, String::new()).await
    }

    pub async fn tls(to: SocketAddr) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
        Self::start(to, Some(TlsAcceptor::from(Arc::new(config))), cert.pem()).await
    }

    async fn start(to: SocketAddr, tls: Option<TlsAcceptor>, pem: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let (cut, is_cut) = watch::channel(false);
        let counted = bytes.clone();
        let sent = Sent::default();
        let recorded = sent.clone();
        let reset = Arc::new(Notify::new());
        let resets = reset.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    // The listener is gone with the connections.
                    () = wait(is_cut.clone()) => return,
                };
                let (tls, counted, is_cut) = (tls.clone(), counted.clone(), is_cut.clone());
                let (reset, sent) = (resets.clone(), recorded.clone());
                let relayed = async move {
                    let server = TcpStream::connect(to).await.unwrap();
                    match tls {
                        None => relay(client, server, counted, sent, is_cut).await,
                        Some(tls) => {
                            // Fails where the client does not trust the certificate.
                            if let Ok(client) = tls.accept(client).await {
                                relay(client, server, counted, sent, is_cut).await;
                            }
                        }
                    }
                };
                tokio::spawn(async move {
                    tokio::select! {
                        () = relayed => {}
                        () = reset.notified() => {}
                    }
                });
            }
        });
        Self {
            address,
            pem,
            bytes,
            sent,
            cut,
            reset,
        }
    }

    /// What has passed so far, both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What clients have sent so far, a text a connection.
    pub fn sent(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        let texts = sent.iter().map(|bytes| String::from_utf8_lossy(bytes));
        texts.map(String::from).collect()
    }

    /// Drops every connection, and takes new ones.
    pub fn reset(&self) {
        self.reset.notify_waiters();
    }

    /// Drops every connection and takes no more.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}

async fn wait(mut is_cut: watch::Receiver<bool>) {
    if is_cut.wait_for(|cut| *cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn relay<C>(
    client: C,
    server: TcpStream,
    bytes: Arc<AtomicU64>,
    sent: Sent,
    is_cut: watch::Receiver<bool>,
) where
    C: AsyncRead + AsyncWrite,
{
    let (client_read, client_write) = split(client);
    let (server_read, server_write) = split(server);
    let connection = {
        let mut sent = sent.lock().unwrap();
        sent.push(Vec::new());
        sent.len() - 1
    };
    let count = |piece: &[u8]| {
        bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
    };
    let record = |piece: &[u8]| {
        count(piece);
        sent.lock().unwrap()[connection].extend_from_slice(piece);
    };
    tokio::select! {
        _ = async { tokio::join!(pump(client_read, server_write, record), pump(server_read, client_write, count)) } => {}
        () = wait(is_cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: impl Fn(&[u8]),
) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        seen(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
