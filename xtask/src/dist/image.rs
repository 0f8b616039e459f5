//! An OCI image in an archive, made without a registry: the static program and its example configuration, over nothing.
//!
//! The layout is that of the OCI image specification 1.0: `podman load`, `docker load` and `skopeo copy oci-archive:`
//! read it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::command::repository;

use super::{
    archive::{documents, sha256, tar},
    origin::{VERSION, date},
    tree,
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// `tfo-VERSION-ARCHITECTURE-oci.tar`, in `folder`.
pub(super) fn make(folder: &Path, binary: &Path, architecture: &str) -> Result<PathBuf> {
    let root = folder.join("image/root");
    let layout = folder.join("image/layout");
    for old in [&root, &layout] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    files(&root, binary)?;
    let layer = blobs.join("layer");
    tar(&root, &["etc", "run", "usr", "var"], &layer)?;
    // Uncompressed, the layer's digest is its diff ID, too.
    let (layer, layer_size) = store(&layer)?;
    let created = date("+%Y-%m-%dT%H:%M:%SZ")?;
    let text = config(&layer, &created, architecture);
    let (config, config_size) = write(&blobs, &text)?;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor(CONFIG, &config, config_size),
        descriptor(LAYER, &layer, layer_size),
    );
    let (manifest, manifest_size) = write(&blobs, &text)?;
    let manifest = descriptor(MANIFEST, &manifest, manifest_size);
    let manifest = manifest.trim_end_matches('}');
    fs::write(
        layout.join("index.json"),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{manifest},"annotations":{{"org.opencontainers.image.ref.name":"localhost/tfo:{VERSION}"}}}}]}}"#
        ),
    )?;
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    let archive = folder.join(format!("tfo-{VERSION}-{architecture}-oci.tar"));
    tar(&layout, &["blobs", "index.json", "oci-layout"], &archive)?;
    Ok(archive)
}

/// The image's files.
fn files(root: &Path, binary: &Path) -> Result<()> {
    let tfo = root.join("usr/bin/tfo");
    tree::copy(binary, &tfo)?;
    tree::copy(
        &repository().join("dist/tfo.toml"),
        &root.join("etc/tfo/tfo.toml"),
    )?;
    let doc = root.join("usr/share/doc/tfo");
    documents(&doc, &doc)?;
    // Mount points: a read-only root has to have them.
    for folder in ["run/tfo", "var/lib/tfo"] {
        fs::create_dir_all(root.join(folder))?;
    }
    tree::set_modes(root)
}

/// The image's configuration. tfo runs as root, with the capabilities that the runtime gives it.
fn config(layer: &str, created: &str, architecture: &str) -> String {
    format!(
        r#"{{"created":"{created}","architecture":"{}","os":"linux","config":{{"Env":["PATH=/usr/bin"],"Entrypoint":["/usr/bin/tfo"],"Cmd":["run","-c","/etc/tfo/tfo.toml"],"StopSignal":"SIGTERM","Labels":{{"org.opencontainers.image.title":"tfo","org.opencontainers.image.version":"{VERSION}","org.opencontainers.image.licenses":"MIT OR Apache-2.0"}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}},"history":[{{"created":"{created}","created_by":"cargo xtask dist"}}]}}"#,
        of_oci(architecture)
    )
}

/// An architecture, as OCI names it.
fn of_oci(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media: &str, digest: &str, size: u64) -> String {
    format!(r#"{{"mediaType":"{media}","digest":"sha256:{digest}","size":{size}}}"#)
}

/// Writes a blob; returns its digest and size.
fn write(blobs: &Path, text: &str) -> Result<(String, u64)> {
    let blob = blobs.join("new");
    fs::write(&blob, text)?;
    store(&blob)
}

/// Names a blob by its digest; returns that and its size.
fn store(blob: &Path) -> Result<(String, u64)> {
    let digest = sha256(blob)?;
    let folder = blob.parent().context("a blob has no folder")?;
    let size = fs::metadata(blob)?.len();
    fs::rename(blob, folder.join(&digest))?;
    Ok((digest, size))
}
