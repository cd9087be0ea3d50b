//! Weights from the Hugging Face hub, in the cache folder that Python's `huggingface_hub` also uses:
//! `models--timm--resnet50.tv_in1k/{refs/main, blobs/<etag>, snapshots/<commit>/model.safetensors}`.
//!
//! Implements only the necessary part of the hub's protocol, over a plain HTTP client: a HEAD request returns commit,
//! hash and size; a GET request with a range fetches the missing bytes. (The hub's own crate brings an asynchronous
//! runtime and a second storage protocol: ten times as many crates as the rest of the program.)

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http;

use crate::{Error, Result};

/// Attempts for a connection that breaks.
const TRIES: usize = 5;

/// Bytes per read.
const PIECE: usize = 1 << 16;

/// Address of the hub, and the local cache of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// [`Hub::ENDPOINT`], or a mirror; without a trailing slash.
    pub endpoint: String,
    /// The folder of all repositories.
    pub cache: PathBuf,
    /// Whether only cached files may be used.
    pub offline: bool,
    /// Access token for private and gated repositories.
    pub token: Option<String>,
}

/// The server's information on a file.
struct About {
    commit: String,
    etag: String,
    size: u64,
    /// Address of the bytes.
    url: String,
}

impl Hub {
    /// The hub itself; others are mirrors.
    pub const ENDPOINT: &str = "https://huggingface.co";

    fn folder(&self, repo: &str) -> PathBuf {
        self.cache.join(format!("models--{}", repo.replace('/', "--")))
    }

    /// Path of the file, if the cache holds it.
    pub fn cached(&self, repo: &str, file: &str) -> Option<PathBuf> {
        let folder = self.folder(repo);
        let commit = fs::read_to_string(folder.join("refs/main")).ok()?;
        let commit = Some(commit.trim()).filter(|commit| is_plain(commit))?;
        let path = folder.join("snapshots").join(commit).join(file);
        path.is_file().then_some(path)
    }

    /// Removes the file from the cache if its bytes no longer match the hash that is its blob's name, because
    /// something changed it on disk. Returns the blob's path in that case. Blobs whose names are other hashes, and
    /// copies on systems without links, cannot be checked.
    ///
    /// # Errors
    /// [`Error::Io`] where the blob cannot be read or removed; [`Error::Weights`] where the blob is damaged and the
    /// hub is offline.
    pub fn discard_damaged(&self, repo: &str, file: &str) -> Result<Option<PathBuf>> {
        let Some(path) = self.cached(repo, file) else { return Ok(None) };
        let blob = path.canonicalize().map_err(|e| Error::io(&path, "read", e))?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_sha256(&name) {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let mut bytes = File::open(&blob).map_err(|e| Error::io(&blob, "read", e))?;
        digest(&mut bytes, &mut hash).map_err(|e| Error::io(&blob, "read", e))?;
        if hexadecimal(hash) == name {
            return Ok(None);
        }
        if self.offline {
            return Err(Error::Weights(format!(
                "{}: its bytes are not those that were fetched: the file was changed; fetch it again without `offline`",
                blob.display()
            )));
        }
        fs::remove_file(&blob).map_err(|e| Error::io(&blob, "remove", e))?;
        Ok(Some(blob))
    }

    /// Path of the file in the cache; fetches the file where it is missing. `progress` receives the number of bytes
    /// so far and in all. Bytes fetched before a connection broke are kept and not fetched again; a file whose hash
    /// differs from the server's is deleted.
    ///
    /// # Errors
    /// [`Error::Weights`] where the server does not have the file, denies access, cannot be reached, or sends other
    /// bytes than announced; [`Error::Io`] where the cache cannot be written; any error that `progress` returns.
    pub fn fetch(
        &self,
        repo: &str,
        file: &str,
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(path) = self.cached(repo, file) {
            return Ok(path);
        }
        if self.offline {
            return Err(Error::Weights(format!(
                "{repo}: {file} is not in {} and must not be fetched (offline); fetch it once without `offline` and \
                 HF_HUB_OFFLINE, or name a file with `weights`",
                self.cache.display()
            )));
        }
        let agent = agent();
        let about = self.about(&agent, repo, file)?;
        let folder = self.folder(repo);
        let blob = folder.join("blobs").join(&about.etag);
        let snapshot = folder.join("snapshots").join(&about.commit).join(file);
        for parent in
            [&blob, &snapshot, &folder.join("refs/main")].into_iter().filter_map(|path| path.parent())
        {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create folder", e))?;
        }
        if !blob.is_file() {
            self.download(&agent, repo, file, &about, &blob, progress)?;
        }
        link(&blob, &snapshot)?;
        let main = folder.join("refs/main");
        crate::nn::write_atomically(&main, |out| out.write_all(about.commit.as_bytes()))?;
        Ok(snapshot)
    }

    fn request(
        &self,
        agent: &ureq::Agent,
        url: &str,
        head: bool,
    ) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        // The first response holds the file's headers; the bytes may be several redirections away.
        let request = match head {
            true => agent.head(url),
            false => agent.get(url).config().max_redirects(8).build(),
        };
        // The token is for the hub, not for hosts it redirects to. (The client does not send it to redirections.)
        match &self.token {
            Some(token) if same_host(url, &self.endpoint) => {
                request.header("authorization", format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    fn about(&self, agent: &ureq::Agent, repo: &str, file: &str) -> Result<About> {
        let mut url = format!("{}/{repo}/resolve/main/{file}", self.endpoint);
        let asked = url.clone();
        let wrong = |what: String| Error::Weights(format!("{asked}: {what}"));
        let mut last = String::new();
        for attempt in 0..TRIES {
            pause(attempt);
            let response = match self.request(agent, &url, true).call() {
                Ok(response) => response,
                Err(e) => {
                    last = e.to_string();
                    continue;
                }
            };
            let status = response.status().as_u16();
            match status {
                200..=399 => {}
                401 | 403 => {
                    return Err(wrong(match &self.token {
                        None => format!(
                            "the server wants to know who asks ({status}): set HF_TOKEN, or use weights of your own \
                             with `weights`"
                        ),
                        Some(_) => format!("the server refuses the token in HF_TOKEN ({status})"),
                    }));
                }
                404 => return Err(wrong("there is no such file (404)".into())),
                _ => {
                    last = format!("the server answers {status}");
                    continue;
                }
            }
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            let etag = header("x-linked-etag").or_else(|| header("etag"));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
            let etag = etag.filter(|etag| is_plain(etag));
            let commit = header("x-repo-commit").filter(|commit| is_plain(commit)).map(String::from);
            let size = header("x-linked-size").or_else(|| header("content-length"));
            let size = size.and_then(|size| size.parse().ok());
            let target = header("location").map(|location| resolved(&url, location));
            // The repository was renamed.
            if let (300.., None, Some(target)) = (status, &commit, &target)
                && same_host(target, &self.endpoint)
            {
                last = format!("the server sends on to {target}");
                url.clone_from(target);
                continue;
            }
            let (Some(etag), Some(commit), Some(size)) = (etag, commit, size) else {
                return Err(wrong("the answer is not the hub's: it names no commit, hash or size".into()));
            };
            return Ok(About { commit, etag, size, url: target.unwrap_or(url) });
        }
        Err(wrong(format!("it cannot be reached ({last}); `offline` and `weights` need no network")))
    }

    /// Fetches the bytes into a file beside the blob, resuming an earlier attempt.
    fn download(
        &self,
        agent: &ureq::Agent,
        repo: &str,
        file: &str,
        about: &About,
        blob: &Path,
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let part = blob.with_extension("incomplete");
        let failed = |action: &'static str| {
            let part = part.clone();
            move |e: io::Error| Error::io(&part, action, e)
        };
        let mut out = open_part(&part)?;
        // Another process that fetches the same file goes first; then the blob exists.
        out.lock().map_err(failed("lock"))?;
        if blob.is_file() {
            return Ok(());
        }
        let mut hash = Sha256::new();
        let mut done = digest(&mut out, &mut hash).map_err(failed("read"))?;
        if done > about.size {
            out.set_len(0).map_err(failed("empty"))?;
            (hash, done) = (Sha256::new(), 0);
        }
        let thrown_away = |what: String| {
            fs::remove_file(&part).map_err(failed("remove"))?;
            Err(Error::Weights(format!("{repo}: {file}: {what}; they are thrown away: try again")))
        };
        let mut piece = vec![0; PIECE];
        let mut last = String::new();
        let mut attempt = 0;
        while done < about.size {
            if attempt == TRIES {
                let kept = done / (1 << 20);
                return Err(Error::Weights(format!(
                    "{repo}: {file}: the connection broke off ({last}); {kept} MiB are kept, and the next attempt \
                     goes on from there"
                )));
            }
            pause(attempt);
            attempt += 1;
            let request = self.request(agent, &about.url, false);
            let response =
                if done > 0 { request.header("range", format!("bytes={done}-")) } else { request }.call();
            let mut response = match response {
                Ok(response) => response,
                Err(e) => {
                    last = e.to_string();
                    continue;
                }
            };
            // A server without range support starts from the beginning: the bytes already on disk are skipped. So
            // only new bytes count as progress, and a server that never sends any cannot loop forever.
            let begins = match response.status().as_u16() {
                200 => 0,
                206 => begin_of(&response).unwrap_or(done),
                status => {
                    last = format!("the server answers {status}");
                    continue;
                }
            };
            let Some(mut known) = done.checked_sub(begins) else {
                last = format!("the server begins at byte {begins}, not {done}");
                continue;
            };
            let (before, mut body) = (done, response.body_mut().as_reader());
            let ended = loop {
                let n = match body.read(&mut piece) {
                    Ok(0) => break format!("{done} of {} bytes arrived", about.size),
                    Ok(n) => n,
                    Err(e) => break e.to_string(),
                };
                let passed_over = known.min(n as u64);
                known -= passed_over;
                let new = &piece[passed_over as usize..n];
                if new.len() as u64 > about.size - done {
                    return thrown_away(format!(
                        "more than the {} bytes came that were promised",
                        about.size
                    ));
                }
                out.write_all(new).map_err(failed("write"))?;
                hash.update(new);
                done += new.len() as u64;
                progress(done, about.size)?;
            };
            last = ended;
            // New bytes reset the number of attempts.
            if done > before {
                attempt = 1;
            }
        }
        out.sync_all().map_err(failed("write"))?;
        let found = hexadecimal(hash);
        // Files outside the large file store have another kind of hash.
        if is_sha256(&about.etag) && found != about.etag {
            return thrown_away(format!(
                "{done} bytes with the hash {found} came, but {} with {} were promised",
                about.size, about.etag
            ));
        }
        fs::rename(&part, blob).map_err(|e| Error::io(blob, "write", e))
    }
}

/// Opens the file for the fetched bytes. In a cache that others can write to, there may be a symbolic link to a file
/// that they may not write themselves: the link is not followed.
fn open_part(part: &Path) -> Result<File> {
    let is_link = || {
        Error::Weights(format!(
            "{}: it is a link, or not a regular file, and Defrost does not write through it. Remove it, and find out who put \
             it there",
            part.display()
        ))
    };
    let opened = OpenOptions::new().read(true).append(true).create_new(true).open(part);
    match opened {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        opened => return opened.map_err(|e| Error::io(part, "create", e)),
    }
    let failed = |e| Error::io(part, "open", e);
    if !part.symlink_metadata().map_err(failed)?.is_file() {
        return Err(is_link());
    }
    let file = OpenOptions::new().read(true).append(true).open(part).map_err(failed)?;
    // The open file is still the one at this path, and it has no other name: nobody put a link there in between.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (opened, named) = (file.metadata().map_err(failed)?, part.symlink_metadata().map_err(failed)?);
        if !named.is_file() || (opened.dev(), opened.ino(), 1) != (named.dev(), named.ino(), named.nlink()) {
            return Err(is_link());
        }
    }
    Ok(file)
}

/// Reads to the end into the hash; returns the number of bytes.
fn digest(from: &mut impl Read, hash: &mut Sha256) -> io::Result<u64> {
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(done),
            n => {
                hash.update(&piece[..n]);
                done += n as u64;
            }
        }
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether a string from outside is safe as a path component.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// First byte of a partial response: `content-range: bytes 1000-1999/2000`.
fn begin_of(response: &http::Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// Scheme, host and port of an address.
fn host(url: &str) -> Option<(String, String, u16)> {
    let url: http::Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, url.host()?.to_lowercase(), port))
}

/// Whether two addresses have the same scheme, host and port.
fn same_host(one: &str, other: &str) -> bool {
    host(one).is_some_and(|one| host(other) == Some(one))
}

/// The absolute address of a redirection from `url`.
fn resolved(url: &str, location: &str) -> String {
    let scheme = url.split("//").next().unwrap_or_default();
    let root = url.match_indices('/').nth(2).map_or(url, |(at, _)| &url[..at]);
    match location {
        _ if location.starts_with("//") => format!("{scheme}{location}"),
        _ if location.starts_with('/') => format!("{root}{location}"),
        _ => location.into(),
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("defrost/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

/// Waits before the next attempt, longer each time.
fn pause(attempt: usize) {
    if attempt > 0 {
        std::thread::sleep(Duration::from_millis(100 << attempt.min(6)));
    }
}

/// Makes the snapshot's file a link to the blob, or a copy where the system has no links.
fn link(blob: &Path, snapshot: &Path) -> Result<()> {
    if snapshot.exists() {
        return Ok(());
    }
    let failed = |e| Error::io(snapshot, "link", e);
    #[cfg(unix)]
    {
        // One `..` for snapshots, one for COMMIT, and one for each folder in the file's name.
        let depth = snapshot.components().count() - blob.components().count();
        let mut target: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
        target.push("blobs");
        target.push(blob.file_name().unwrap_or_default());
        if snapshot.symlink_metadata().is_ok() {
            fs::remove_file(snapshot).map_err(failed)?;
        }
        std::os::unix::fs::symlink(target, snapshot).map_err(failed)
    }
    #[cfg(not(unix))]
    {
        fs::hard_link(blob, snapshot).or_else(|_| fs::copy(blob, snapshot).map(drop)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_for_one_host() {
        let hub = "https://huggingface.co";
        for same in
            ["https://huggingface.co/a/b", "https://HUGGINGFACE.co:443/a", "https://huggingface.co?x=//other"]
        {
            assert!(same_host(same, hub), "{same}");
        }
        for other in [
            "http://huggingface.co/a",
            "https://huggingface.co:8443/a",
            "https://huggingface.co.other.host/a",
            "https://huggingface.co@other.host/a",
            "https://huggingface.co:443@other.host/a",
            "https://other.host/https://huggingface.co/",
            "https://other.host#huggingface.co",
            "https://other.host\\@huggingface.co/",
            "https://xhuggingface.co/",
            "https://huggingface.co./",
            "//huggingface.co/a",
            "huggingface.co/a",
            "file:///huggingface.co",
            "",
        ] {
            assert!(!same_host(other, hub), "{other}");
        }
        assert!(!same_host("nowhere", "nowhere"));
    }

    #[test]
    fn locations_lead_on_from_where_they_were_given() {
        let from = "https://mirror.host:8443/hub/a/resolve/main/b";
        for (location, expected) in [
            ("/store/b", "https://mirror.host:8443/store/b"),
            ("//other.host/b", "https://other.host/b"),
            ("http://other.host/b", "http://other.host/b"),
        ] {
            assert_eq!(resolved(from, location), expected);
        }
        assert_eq!(resolved("https://mirror.host", "/b"), "https://mirror.host/b");
    }
}
