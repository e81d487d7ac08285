"""The errors that users are meant to read: one clear message, no traceback."""


class AosaError(Exception):
    """Something the user can put right; the message names the file or key and what would be right."""


class ConfigError(AosaError):
    """A config key that is misspelt, missing, or out of range."""


class MissingDataError(ConfigError):
    """A data set that is not there, or not where the config says: a folder, a list, or every one of its videos."""


class CheckpointError(AosaError):
    """A checkpoint that cannot be read safely or does not fit the network."""


class StoreError(AosaError):
    """A stored result that is not what was written; the stage that wrote it makes it again."""


class VideoError(AosaError):
    """One video that cannot be used. A batch reports it and goes on."""
