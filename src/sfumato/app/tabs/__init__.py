"""The tabs of the page, one file each: what is asked, how it is asked, and what is shown."""
