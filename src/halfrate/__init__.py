"""halfrate"""
