//! Fetching weights, from a server on this machine that answers like the hub.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use command::server::{COMMIT, Manners, Server};
use command::{Outcome, Place};
use defrost::models::{self, rule_fill};
use sha2::{Digest, Sha256};

/// Weights of a small network under timm's names, in bytes.
fn weights() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut net = models::create("mobilenet_v3_small", 1000).unwrap();
    rule_fill(&mut net);
    net.save_as(&path, models::Naming::Timm).unwrap();
    std::fs::read(path).unwrap()
}

const NAME: &str = "mobilenetv3_small_100.lamb_in1k";

fn run(place: &Place, server: &Server, args: &[&str], token: Option<&str>) -> Outcome {
    let mut command = place.command(args);
    for name in
        ["HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", place.path("hf"));
    if let Some(token) = token {
        command.env("HF_TOKEN", token);
    }
    Outcome::of(command.output().unwrap())
}

fn folder(place: &Place) -> PathBuf {
    place.path("hf").join("hub").join(format!("models--timm--{NAME}"))
}

fn blobs(place: &Place) -> usize {
    std::fs::read_dir(folder(place).join("blobs")).map_or(0, Iterator::count)
}

#[test]
fn files_lie_where_python_looks_for_them() {
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes.clone(), Manners::default());
    let missing = run(&place, &server, &["weights", "path", NAME], None);
    assert!(
        missing.code == 1 && missing.stderr.contains(&format!("weights fetch {NAME}")),
        "{}",
        missing.stderr
    );
    let done = run(&place, &server, &["weights", "fetch", "mobilenet_v3_small"], None);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("MiB") && done.stderr.contains("apache-2.0"), "{}", done.stderr);
    let path = folder(&place).join("snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(PathBuf::from(done.stdout.trim()), path);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_to_string(folder(&place).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(blobs(&place), 1, "nothing incomplete is left");
    #[cfg(unix)]
    assert!(path.symlink_metadata().unwrap().is_symlink());
    // Once is enough: from now on no server is asked.
    let asked = server.asked().len();
    let again = run(&place, &server, &["weights", "fetch", NAME], None);
    assert_eq!((again.code, again.stdout), (0, done.stdout.clone()));
    let offline = run(&place, &server, &["--offline", "weights", "path", NAME], None);
    assert_eq!(offline.stdout, done.stdout);
    let list = run(&place, &server, &["weights", "list"], None);
    assert_eq!(list.stdout.matches("in the cache").count(), 1, "{}", list.stdout);
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn a_training_fetches_what_it_needs() {
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes, Manners::default());
    let data = place.images("photos", &command::COLOURS, 6);
    let data = data.to_str().unwrap();
    let offline = run(&place, &server, &["train", data, "--model", "mobilenet_v3_small", "--offline"], None);
    assert!(offline.code == 1 && offline.stderr.contains("offline"), "{}", offline.stderr);
    let args = [
        "train",
        data,
        "--strategy",
        "features",
        "--model",
        "mobilenet_v3_small",
        "--epochs",
        "2",
        "--device",
        "cpu",
    ];
    let done = run(&place, &server, &args, None);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("fetching timm/"), "{}", done.stderr);
    let known = run(&place, &server, &["predict", "mobilenet_v3_small", data, "--device", "cpu"], None);
    assert_eq!(known.code, 0, "{}", known.stderr);
    let none = run(&place, &server, &["train", data, "--model", "squeezenet1_0"], None);
    assert!(none.code == 2 && none.stderr.contains("--weights"), "{}", none.stderr);
}

#[test]
fn broken_connections_are_taken_up_again() {
    let (place, bytes) = (Place::new(), weights());
    let size = bytes.len();
    let cut = Manners { cut: Some(size / 3 + 1), ..Manners::default() };
    let server = Server::new(bytes.clone(), cut);
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(server.sent.load(Ordering::SeqCst), size, "no byte came twice");
    assert_eq!(std::fs::read(done.stdout.trim()).unwrap(), bytes);

    // What an earlier process left is not fetched again; where the server knows no ranges, it is.
    for (ignores_ranges, expected) in [(false, size - 1000), (true, size)] {
        let place = Place::new();
        let server = Server::new(bytes.clone(), Manners { ignores_ranges, ..Manners::default() });
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        std::fs::create_dir_all(folder(&place).join("blobs")).unwrap();
        std::fs::write(folder(&place).join("blobs").join(format!("{hash}.incomplete")), &bytes[..1000])
            .unwrap();
        let done = run(&place, &server, &["weights", "fetch", NAME], None);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(server.sent.load(Ordering::SeqCst), expected, "ignores ranges: {ignores_ranges}");
        assert_eq!(std::fs::read(done.stdout.trim()).unwrap(), bytes);
    }
}

#[test]
fn a_connection_that_gives_nothing_ends_with_an_error_that_keeps_what_came() {
    let place = Place::new();
    let server = Server::new(weights(), Manners { cut: Some(0), ..Manners::default() });
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert!(done.code == 1 && done.stderr.contains("broke off"), "{}", done.stderr);
    assert_eq!(blobs(&place), 1);
    assert!(!folder(&place).join("refs/main").exists());
}

#[test]
fn other_bytes_than_promised_are_thrown_away() {
    let place = Place::new();
    let server = Server::new(weights(), Manners { wrong_hash: true, ..Manners::default() });
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert!(done.code == 1 && done.stderr.contains("thrown away"), "{}", done.stderr);
    assert_eq!(blobs(&place), 0);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, sign) in [(404, "no such file"), (401, "HF_TOKEN"), (403, "HF_TOKEN"), (503, "503")] {
        let place = Place::new();
        let server = Server::new(Vec::new(), Manners { status: Some(status), ..Manners::default() });
        let done = run(&place, &server, &["weights", "fetch", NAME], None);
        assert!(
            done.code == 1 && done.stderr.contains(sign) && done.stderr.contains(NAME),
            "{}",
            done.stderr
        );
    }
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes, Manners { token: Some("hf_secret"), ..Manners::default() });
    assert_eq!(run(&place, &server, &["weights", "fetch", NAME], None).code, 1);
    let wrong = run(&place, &server, &["weights", "fetch", NAME], Some("hf_other"));
    assert!(wrong.code == 1 && !wrong.stderr.contains("hf_other"), "{}", wrong.stderr);
    let done = run(&place, &server, &["weights", "fetch", NAME], Some("hf_secret"));
    assert_eq!(done.code, 0, "{}", done.stderr);
}

#[test]
fn renamed_repositories_are_followed() {
    let place = Place::new();
    let server = Server::new(weights(), Manners { renamed: true, ..Manners::default() });
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert_eq!(done.code, 0, "{}", done.stderr);
}

/// The address of a server, without its scheme.
fn host(server: &Server) -> &str {
    server.address.strip_prefix("http://").unwrap()
}

/// Whatever address the hub names, the token is for the hub: same scheme, host and port.
#[test]
fn the_token_goes_to_the_named_host_only() {
    let bytes = weights();
    let other = Server::new(bytes.clone(), Manners::default());
    let hub = Server::new(bytes.clone(), Manners::default());
    let (hub, other_host) = (host(&hub).to_string(), host(&other));
    let addresses = [
        format!("http://{other_host}/store/x"),
        format!("http://{hub}@{other_host}/store/x"),
        format!("http://{hub}:pass@{other_host}/store/x"),
        format!("http://{other_host}/http://{hub}/"),
        format!("//{other_host}/store/x"),
    ];
    let stores = addresses.iter().map(|at| Manners { elsewhere: Some(at.clone()), ..Manners::default() });
    let onwards = addresses.iter().map(|at| Manners { sent_on: Some(at.clone()), ..Manners::default() });
    for manners in stores.chain(onwards) {
        let at = format!("{:?} {:?}", manners.elsewhere, manners.sent_on);
        let (place, server) =
            (Place::new(), Server::new(bytes.clone(), Manners { token: Some("secret"), ..manners }));
        let done = run(&place, &server, &["weights", "fetch", NAME], Some("secret"));
        assert_eq!(done.code, 0, "{at}: {}", done.stderr);
        assert_eq!(std::fs::read(done.stdout.trim()).unwrap(), bytes);
        assert!(server.tokens().iter().all(|token| token.as_deref() == Some("Bearer secret")), "{at}");
        assert!(!other.asked().is_empty());
        let leaked = |token: &Option<String>| token.as_deref().is_some_and(|token| token.contains("secret"));
        assert!(!other.tokens().iter().any(leaked), "{at}: {:?}", other.tokens());
    }
}

/// A server that never sends all of it, and always begins at the beginning.
#[test]
fn a_server_without_ranges_is_not_asked_for_ever() {
    let (place, bytes) = (Place::new(), weights());
    let third = bytes.len() / 3;
    let manners = Manners { cut: Some(third), ignores_ranges: true, ..Manners::default() };
    let server = Server::new(bytes.clone(), manners);
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert!(done.code == 1 && done.stderr.contains("broke off"), "{}", done.stderr);
    assert!(server.sent.load(Ordering::SeqCst) <= 6 * third, "{:?}", server.asked());
    // Nothing of what came is lost, and what a better server sends is added to it.
    let better = Server::new(bytes.clone(), Manners::default());
    let done = run(&place, &better, &["weights", "fetch", NAME], None);
    assert_eq!(better.sent.load(Ordering::SeqCst), bytes.len() - third);
    assert_eq!(std::fs::read(done.stdout.trim()).unwrap(), bytes);
}

/// A part that begins elsewhere than it was asked for is not taken for what is missing.
#[test]
fn parts_begin_where_they_were_asked_for() {
    let (place, bytes) = (Place::new(), weights());
    let manners = Manners { cut: Some(bytes.len() / 2), late: 7, ..Manners::default() };
    let server = Server::new(bytes, manners);
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert!(done.code == 1 && done.stderr.contains("begins at byte"), "{}", done.stderr);
    assert!(!folder(&place).join("refs/main").exists());
}

#[test]
fn no_byte_more_than_promised_is_written() {
    for (more, cut) in [(1, None), (100 << 20, None), (1000, Some(1 << 20))] {
        let (place, bytes) = (Place::new(), weights());
        let server = Server::new(bytes.clone(), Manners { more, cut, ..Manners::default() });
        let done = run(&place, &server, &["weights", "fetch", NAME], None);
        assert!(done.code == 1 && done.stderr.contains("more than the"), "{}", done.stderr);
        assert!(done.stderr.contains("thrown away"), "{}", done.stderr);
        assert_eq!(blobs(&place), 0);
        assert!(server.sent.load(Ordering::SeqCst) < bytes.len() + (20 << 20), "it goes on listening");
    }
    // What an earlier attempt left is no excuse.
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes.clone(), Manners::default());
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    std::fs::create_dir_all(folder(&place).join("blobs")).unwrap();
    let part = folder(&place).join("blobs").join(format!("{hash}.incomplete"));
    std::fs::write(part, [&bytes[..], b"more"].concat()).unwrap();
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert_eq!(std::fs::read(done.stdout.trim()).unwrap(), bytes, "{}", done.stderr);
}

/// A blob whose bytes are no longer those of its name.
#[cfg(unix)]
#[test]
fn blobs_that_were_changed_are_fetched_again() {
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes.clone(), Manners::default());
    let fetched = run(&place, &server, &["weights", "fetch", NAME], None);
    let path = PathBuf::from(fetched.stdout.trim());
    let blob = path.canonicalize().unwrap();
    let changed = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        changed
    };
    for damaged in
        [changed(bytes.len() - 5), changed(0), bytes[..1000].to_vec(), [&bytes[..], b"x"].concat(), vec![]]
    {
        std::fs::write(&blob, &damaged).unwrap();
        let offline = run(&place, &server, &["weights", "fetch", NAME, "--offline"], None);
        assert!(offline.code == 1 && offline.stderr.contains("changed"), "{}", offline.stderr);
        assert_eq!(std::fs::read(&blob).unwrap(), damaged, "it stays where nothing better is to be had");
        let again = run(&place, &server, &["weights", "fetch", NAME], None);
        assert_eq!((again.code, again.stdout), (0, fetched.stdout.clone()), "{}", again.stderr);
        assert!(
            again.stderr.contains("warning: ") && again.stderr.contains("fetched again"),
            "{}",
            again.stderr
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    let asked = server.asked().len();
    let sound = run(&place, &server, &["weights", "fetch", NAME], None);
    assert!(sound.code == 0 && !sound.stderr.contains("warning"), "{}", sound.stderr);
    assert_eq!(server.asked().len(), asked);
}

/// In a cache that others can write to, what lies in the place of an unfinished file is not written through.
#[cfg(unix)]
#[test]
fn links_in_the_cache_are_not_followed() {
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes.clone(), Manners::default());
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let part = folder(&place).join("blobs").join(format!("{hash}.incomplete"));
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    let victim = place.path("victim");
    std::fs::write(&victim, "precious").unwrap();
    type Lay<'a> = &'a dyn Fn() -> std::io::Result<()>;
    let kinds: [Lay<'_>; 4] = [
        &|| std::os::unix::fs::symlink(&victim, &part),
        &|| std::os::unix::fs::symlink(place.path("nothing"), &part),
        &|| std::fs::hard_link(&victim, &part),
        &|| std::fs::create_dir(&part),
    ];
    for lay in kinds {
        lay().unwrap();
        let done = run(&place, &server, &["weights", "fetch", NAME], None);
        assert!(
            done.code == 1 && done.stderr.contains("incomplete") && done.stderr.contains("link"),
            "{}",
            done.stderr
        );
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!place.path("nothing").exists());
        if part.is_dir() { std::fs::remove_dir(&part).unwrap() } else { std::fs::remove_file(&part).unwrap() }
    }
    let done = run(&place, &server, &["weights", "fetch", NAME], None);
    assert_eq!(std::fs::read(done.stdout.trim()).unwrap(), bytes, "{}", done.stderr);
}

/// A disk that takes no more: the error names the file, and nothing that looks finished is left.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error() {
    let (place, bytes) = (Place::new(), weights());
    let server = Server::new(bytes, Manners::default());
    let mut command = std::process::Command::new("bash");
    let script =
        format!("trap '' XFSZ; ulimit -f 1024; exec {} weights fetch {NAME}", env!("CARGO_BIN_EXE_defrost"));
    command.args(["-c", &script]);
    place.prepare(&mut command);
    command.env_remove("HF_HUB_CACHE").env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", place.path("hf"));
    let done = Outcome::of(command.output().unwrap());
    assert!(
        done.code == 1 && done.stderr.contains("incomplete: cannot write"),
        "{} {}",
        done.code,
        done.stderr
    );
    assert!(!folder(&place).join("refs/main").exists());
    let again = run(&place, &server, &["weights", "fetch", NAME], None);
    assert_eq!(again.code, 0, "{}", again.stderr);
}
