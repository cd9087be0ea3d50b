//! Weights from the Hugging Face hub, in the cache folder that Python's `huggingface_hub` uses too:
//! `models--timm--resnet50.tv_in1k/{refs/main, blobs/<etag>, snapshots/<commit>/model.safetensors}`.
//!
//! Only what is needed of the hub's protocol, over a plain HTTP client: a HEAD request tells commit, hash and size, a
//! GET with a range fetches what is missing. (The hub's own crate brings an asynchronous runtime and a second
//! storage protocol: ten times as many crates as the rest of the program.)

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// How often a connection that breaks off is taken up again.
const TRIES: usize = 5;

/// Bytes that are asked for at a time.
const PIECE: usize = 1 << 16;

/// Where the hub is, and where its files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// `https://huggingface.co`, or a mirror.
    pub endpoint: String,
    /// The folder of all repositories.
    pub cache: PathBuf,
    /// Whether only what is in the cache may be used.
    pub offline: bool,
    /// For repositories that are not open to everybody.
    pub token: Option<String>,
}

/// What the server says of a file.
struct About {
    commit: String,
    etag: String,
    size: u64,
    /// Where the bytes are.
    url: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Hub {
    /// As the environment says, like Python's client: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`,
    /// `HF_HUB_OFFLINE`, `HF_TOKEN` or the file `$HF_HOME/token`.
    pub fn from_env() -> Self {
        let home =
            || variable("HOME").or_else(|| variable("USERPROFILE")).map_or(PathBuf::from("."), PathBuf::from);
        let base = variable("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
        let hf = variable("HF_HOME").map_or_else(|| base.join("huggingface"), PathBuf::from);
        let saved = || fs::read_to_string(hf.join("token")).ok().map(|token| token.trim().to_string());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Hub {
            endpoint: endpoint.trim_end_matches('/').into(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| hf.join("hub"), PathBuf::from),
            offline: variable("HF_HUB_OFFLINE")
                .is_some_and(|on| !matches!(&*on.to_lowercase(), "0" | "false" | "no")),
            token: variable("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty()),
        }
    }

    fn folder(&self, repo: &str) -> PathBuf {
        self.cache.join(format!("models--{}", repo.replace('/', "--")))
    }

    /// The file, where it is in the cache.
    pub fn cached(&self, repo: &str, file: &str) -> Option<PathBuf> {
        let folder = self.folder(repo);
        let commit = fs::read_to_string(folder.join("refs/main")).ok()?;
        let path = folder.join("snapshots").join(commit.trim()).join(file);
        path.is_file().then_some(path)
    }

    /// The file, fetched where it is not in the cache; `progress` is told how many bytes there are, and of how many.
    /// What was fetched before a connection broke is kept and not fetched again; what does not have the hash that the
    /// server promised is thrown away.
    ///
    /// # Errors
    /// [`Error::Weights`] where the server has no such file, does not give it to us, cannot be reached, or gives
    /// other bytes than it promised; [`Error::Io`] where the cache cannot be written; whatever `progress` returns.
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
                "{repo}: {file} is not in {} and must not be fetched (offline); fetch it once without --offline and \
                 HF_HUB_OFFLINE, or name a file with --weights",
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
        // The headers of a file stand in the first answer; its bytes may lie several redirections away.
        let request = match head {
            true => agent.head(url),
            false => agent.get(url).config().max_redirects(8).build(),
        };
        // The token is for the hub, not for those it sends us to.
        match &self.token {
            Some(token) if url.starts_with(&self.endpoint) => {
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
                             with --weights"
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
            let etag = etag.filter(|etag| {
                !etag.is_empty() && etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            });
            let commit = header("x-repo-commit").map(String::from);
            let commit = commit.filter(|c| !c.is_empty() && c.chars().all(|c| c.is_ascii_alphanumeric()));
            let size = header("x-linked-size").or_else(|| header("content-length"));
            let size = size.and_then(|size| size.parse().ok());
            let target = header("location").map(|location| match location.starts_with('/') {
                true => format!("{}{location}", self.endpoint),
                false => location.to_string(),
            });
            // A repository that was renamed.
            if let (300.., None, Some(target)) = (status, &commit, &target)
                && target.starts_with(&self.endpoint)
            {
                url.clone_from(target);
                continue;
            }
            let (Some(etag), Some(commit), Some(size)) = (etag, commit, size) else {
                return Err(wrong("the answer is not the hub's: it names no commit, hash or size".into()));
            };
            return Ok(About { commit, etag, size, url: target.unwrap_or(url) });
        }
        Err(wrong(format!("it cannot be reached ({last}); --offline and --weights need no network")))
    }

    /// Fetches the bytes into a file beside the blob, from where an earlier attempt ended.
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
        let mut out = OpenOptions::new();
        let mut out = out.create(true).read(true).append(true).open(&part).map_err(failed("create"))?;
        // Another process that fetches the same goes first; then the blob is there.
        out.lock().map_err(failed("lock"))?;
        if blob.is_file() {
            return Ok(());
        }
        let (mut hash, mut done) = (Sha256::new(), 0);
        let mut piece = vec![0; PIECE];
        out.seek(SeekFrom::Start(0)).map_err(failed("read"))?;
        loop {
            let n = out.read(&mut piece).map_err(failed("read"))?;
            if n == 0 {
                break;
            }
            hash.update(&piece[..n]);
            done += n as u64;
        }
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
            let status = response.status().as_u16();
            if done > 0 && status == 200 {
                // It does not know ranges: from the beginning.
                out.set_len(0).map_err(failed("empty"))?;
                (hash, done) = (Sha256::new(), 0);
            } else if !matches!(status, 200 | 206) {
                last = format!("the server answers {status}");
                continue;
            }
            let mut body = response.body_mut().as_reader();
            loop {
                let n = match body.read(&mut piece) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) => {
                        last = e.to_string();
                        break;
                    }
                };
                out.write_all(&piece[..n]).map_err(failed("write"))?;
                hash.update(&piece[..n]);
                done += n as u64;
                // Whatever arrives counts as a new beginning.
                attempt = 1;
                progress(done, about.size)?;
            }
            if last.is_empty() {
                last = format!("{done} of {} bytes arrived", about.size);
            }
        }
        out.sync_all().map_err(failed("write"))?;
        let found = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Files that are not kept in the large store have another kind of hash.
        let promised = about.etag.len() == 64;
        if done != about.size || (promised && found != about.etag) {
            fs::remove_file(&part).map_err(failed("remove"))?;
            return Err(Error::Weights(format!(
                "{repo}: {file}: {done} bytes with the hash {found} came, but {} with {} were promised; they are \
                 thrown away: try again",
                about.size, about.etag
            )));
        }
        fs::rename(&part, blob).map_err(|e| Error::io(blob, "write", e))
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

/// Before another attempt: longer each time.
fn pause(attempt: usize) {
    if attempt > 0 {
        std::thread::sleep(Duration::from_millis(100 << attempt.min(6)));
    }
}

/// Makes the snapshot's file a link to the blob, or a copy where links are not to be had.
fn link(blob: &Path, snapshot: &Path) -> Result<()> {
    if snapshot.exists() {
        return Ok(());
    }
    let failed = |e| Error::io(snapshot, "link", e);
    #[cfg(unix)]
    {
        // Out of snapshots/COMMIT and what folders the file's name has.
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
