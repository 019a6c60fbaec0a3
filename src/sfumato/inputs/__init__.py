"""What a request is given beside text: images, masks and schedules, read once and bounded."""
