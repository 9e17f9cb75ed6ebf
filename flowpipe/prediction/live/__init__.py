"""Label a camera, a stream, a pipe, or a file at its own pace."""
