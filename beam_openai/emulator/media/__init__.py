"""Images and sounds that the server makes and looks at: bytes in real formats, with no encoder but zlib."""
