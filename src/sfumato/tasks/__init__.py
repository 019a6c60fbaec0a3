"""Questions asked of many requests, one file each; `sfumato.runs` carries them out."""
