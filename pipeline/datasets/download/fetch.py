"""Downloads and unpacks the archives named in the config."""

from pathlib import Path

from pipeline.config.data import DataConfig
from pipeline.datasets.download.file_download import download
from pipeline.datasets.download.http import Web
from pipeline.datasets.download.provenance import find_by_md5
from pipeline.datasets.download.unpack import unpack
from pipeline.datasets.download.zenodo import list_record
from pipeline.runtime.progress import Watch

DOWNLOADS = ".downloads"
"""Folder under `data.root` for the packed files of records; they may be deleted when unpacked."""


def take_in(config: DataConfig, watch: Watch) -> list[Path]:
    """Download `data.zenodo_record`, unpack it and `data.archives`; the unpacked folders.

    Whatever is done already is found and not done again. Raises ValueError where something cannot
    be had, trusted or stored.
    """
    folders = _take_record(config, watch) if config.zenodo_record else []
    expected = config.md5 or [""] * len(config.archives)
    for name, md5 in zip(config.archives, expected, strict=True):
        folders.append(unpack(Path(name), config, md5=md5, watch=watch))
    return folders


def _take_record(config: DataConfig, watch: Watch) -> list[Path]:
    root, web, folders = Path(config.root), Web(config), []
    for file in list_record(config, web):
        done = find_by_md5(root, file.md5)
        if done is None:
            progress = watch(f"download {file.name}")
            path = download(file, root / DOWNLOADS, web=web, progress=progress)
            done = unpack(path, config, md5=file.md5, watch=watch)
        folders.append(done)
    return folders
