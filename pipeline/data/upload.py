"""Batches from page-locked memory to a GPU, on a stream of their own beside the model's work."""

from collections import deque

import torch

from pipeline.data.batch import Batch

Uploaded = tuple[Batch, torch.cuda.Event | None]
"""A batch on a device and the event that its copy ends with; None = it is there."""


class Upload:
    """Copies batches to one device; on a CPU it hands them on as they are.

    The copy runs while the caller goes on. A batch's host memory is held until its copy has ended
    and may then be used again; the device's memory is told of the stream that uses the batch.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._running: deque[tuple[torch.cuda.Event, Batch]] = deque()

    def start(self, batch: Batch) -> Uploaded:
        """Begin the copy; any thread may call."""
        if self._stream is None:
            return batch.to(self._device), None
        while self._running and self._running[0][0].query():
            self._running.popleft()
        with torch.cuda.stream(self._stream):
            moved = batch.to(self._device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._stream)
        self._running.append((event, batch))
        return moved, event

    def finish(self, moved: Batch, event: torch.cuda.Event | None) -> Batch:
        """The batch for use on the calling thread's stream, which waits for it, not the thread."""
        if event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(event)
            for tensor in moved.tensors():
                tensor.record_stream(stream)
        return moved
