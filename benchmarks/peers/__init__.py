"""The servers that the service is compared with, one module each, configured by their documentation. See serving/servers.py."""
