//! A server that answers like the hub.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server behaves.
#[derive(Default)]
pub struct Manners {
    /// Answers with this status.
    pub status: Option<u16>,
    /// Closes the connection after so many bytes of each answer.
    pub cut: Option<usize>,
    /// Sends from the beginning, whatever range was asked for.
    pub ignores_ranges: bool,
    /// Promises another hash.
    pub wrong_hash: bool,
    /// Gives the file only to those with this token.
    pub token: Option<&'static str>,
    /// The repository was renamed.
    pub renamed: bool,
    /// The bytes are at this address.
    pub elsewhere: Option<String>,
    /// Whoever asks for the bytes is sent on to this address.
    pub sent_on: Option<String>,
    /// Sends so many bytes more than it promises.
    pub more: usize,
    /// Answers with a part that begins so many bytes too late.
    pub late: usize,
}

pub struct Server {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
    pub sent: Arc<AtomicUsize>,
}

/// The file of a repository.
type Files = dyn Fn(&str) -> Arc<Vec<u8>> + Send + Sync;

impl Server {
    /// Serves `bytes` as every repository's `model.safetensors`, which lies in a store of its own, as large files do.
    pub fn new(bytes: Vec<u8>, manners: Manners) -> Self {
        let bytes = Arc::new(bytes);
        Server::of(move |_| bytes.clone(), manners)
    }

    /// Serves of each repository, `timm/NAME`, what `files` gives.
    pub fn of(files: impl Fn(&str) -> Arc<Vec<u8>> + Send + Sync + 'static, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server =
            Server { address, requests: Arc::default(), tokens: Arc::default(), sent: Arc::default() };
        let (requests, tokens, sent) = (server.requests.clone(), server.tokens.clone(), server.sent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A connection that breaks off is the client's affair.
                let _ = answer(stream.unwrap(), &files, &manners, (&requests, &tokens), &sent);
            }
        });
        server
    }

    pub fn asked(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// What each request had in its header `authorization`.
    pub fn tokens(&self) -> Vec<Option<String>> {
        self.tokens.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Files,
    manners: &Manners,
    (requests, tokens): (&Mutex<Vec<String>>, &Mutex<Vec<Option<String>>>),
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    requests.lock().unwrap().push(request.clone());
    tokens.lock().unwrap().push(headers.get("authorization").cloned());
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut head =
        |status: &str, more: &str| write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\n{more}\r\n");
    let repository =
        path.split("/resolve/").next().unwrap_or("").trim_start_matches("/store").trim_matches('/');
    let bytes = files(repository);
    if let Some(status) = manners.status {
        return head(&format!("{status} No"), "content-length: 0\r\n");
    }
    let wanted = manners.token.map(|token| format!("Bearer {token}"));
    if path.contains("/resolve/") {
        if wanted.is_some() && headers.get("authorization") != wanted.as_ref() {
            return head("401 Unauthorized", "content-length: 0\r\n");
        }
        if manners.renamed && !path.starts_with("/new/") {
            return head(
                "307 Moved",
                "location: /new/name/resolve/main/model.safetensors\r\ncontent-length: 0\r\n",
            );
        }
        let hash: String = Sha256::digest(bytes.as_slice()).iter().map(|b| format!("{b:02x}")).collect();
        let hash = if manners.wrong_hash { "0".repeat(64) } else { hash };
        let size = bytes.len();
        let bytes_at = manners.elsewhere.clone().unwrap_or(format!("/store/{repository}"));
        return head(
            "302 Found",
            &format!(
                "x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{hash}\"\r\nx-linked-size: {size}\r\n\
                 location: {bytes_at}\r\ncontent-length: 0\r\n"
            ),
        );
    }
    assert_eq!(method, "GET");
    if let Some(on) = &manners.sent_on {
        return head("302 Found", &format!("location: {on}\r\ncontent-length: 0\r\n"));
    }
    let from =
        headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.filter(|_| !manners.ignores_ranges).unwrap_or(0);
    let begins = if from > 0 { from + manners.late } else { 0 };
    let rest = [&bytes[begins.min(bytes.len())..], &vec![b'x'; manners.more][..]].concat();
    let range = format!("content-range: bytes {begins}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    let (status, range) = if from > 0 { ("206 Partial", &*range) } else { ("200 OK", "") };
    head(status, &format!("{range}content-length: {}\r\n", rest.len()))?;
    let now = &rest[..manners.cut.unwrap_or(rest.len()).min(rest.len())];
    for piece in now.chunks(1 << 16) {
        stream.write_all(piece)?;
        sent.fetch_add(piece.len(), Ordering::SeqCst);
    }
    stream.flush()
}
