# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""The model of pages.py with a delta beside each page, for its latest changes: what a write may put instead of the page.

A page takes two items before it splits, a delta one or two changes. Then each rule is left out.
"""
import sys
from pages import *
import pages
XY={'':(('x','a'),('y','b'))}
X={'':(('x','a'),)}
N=lambda *names:tuple(names)
ON=dict(deltas=1,cap=2,tmax=900,evict=True)
def run(nm,cl,**cfg): return go(nm,cl,**{**ON,**cfg})
w1=W('x','c'); w2=W('x','d',('w1',)); w3=W('y','e',('w2',)); w2y=W('y','d',('w1',))
CANCEL=('cancel',(),(),False)
def holds():
    print('== with deltas')
    run('three writes, e2 c1',{'w1':w1,'w2':w2,'w3':w3},init=XY,err=2)
    run('three writes, e1 c2',{'w1':w1,'w2':w2,'w3':w3},init=XY,err=1,crash=2)
    run('writes of two items, two changes a delta, e1 c1',{'w1':w1,'w2':w2y,'w3':W('x','e',('w2',))},init=XY,deltas=2)
    run('two writers at once, e1 c1',{'w1':w1,'w2':w2,'w3':W('y','e',('w1',))},init=XY,deltas=2)
    run('reader beside writes, e1 c0',{'w1':w1,'w2':w2,'w3':w3,'rd':R('x',('w1',))},init=XY,crash=0)
    run('reader beside writes of both items, two changes a delta, e0 c0',{'w1':w1,'w2':w2,'w3':W('y','e',('w2',)),'w4':W('x','f',('w3',)),'rd':R('x')},init=XY,err=0,crash=0,deltas=2)
    run('split after a delta, e1 c1',{'w1':w1,'w2':w2,'w3':W('z','e',('w2',))},init=XY)
    run('split after a delta, writes after it, e1 c0',{'w1':w1,'w2':w2,'w3':W('z','e',('w2',)),'w4':W('x','f',('w3',)),'w5':W('x','g',('w4',))},init=XY,crash=0)
    run('reader beside a split after a delta, e1 c0',{'w1':w1,'w2':w2,'w3':W('z','e',('w2',)),'rd':R('x',('w1',))},init=XY,crash=0)
    run('rotation after a delta, e1 c0',{'w1':w1,'w2':w2,'r':('rot',(),('w2',),False)},init=XY,crash=0)
    run('rotation beside writes, e1 c0',{'w1':w1,'w2':w2,'w3':w3,'r':('rot',(),('w1',),False)},init=XY,crash=0)
    run('rotation after a delta, e0 c1',{'w1':w1,'w2':w2,'r':('rot',(),('w2',),False),'w3':W('x','e',('w2',))},init=XY,err=0,crash=1)
    run('rotation, reader, e0 c0',{'w1':w1,'w2':w2,'r':('rot',(),('w1',),False),'rd':R('x',('w1',))},init=XY,err=0,crash=0)
    run('cancelled rotation beside writes, e0 c0',{'w1':w1,'w2':w2,'w3':w3,'w4':W('x','f',('w3',)),'r':('rot',(),('w1',),False),'cc':('cancel',(),('w1',),False)},init=XY,err=0,crash=0)
    run('cancelled rotation after a delta, e1 c0',{'w1':w1,'w2':w2,'w3':w3,'r':('rot',(),('w2',),False),'cc':('cancel',(),('w2',),False)},init=XY,err=1,crash=0)
    run('rotation of a split with a delta, e0 c1',{'w1':w1,'w2':w2,'w3':W('z','e',('w2',)),'r':('rot',(),('w2',),False)},init=XY,err=0,crash=1)
    run('repeated write, e2 c1',REPEATED,init=XY,err=2)
    run('reader beside a failed split and a rotation, e1 c0',SPLIT,init=XY,crash=0)
REPEATED={'w1':w1,'r1':W('x','e',('w1',)),'w2':W('y','f',('r1',)),'r1 again':W('x','e',('w2',))}
SPLIT={'w1':w1,'w2':w2,'w3':W('z','e',('w2',)),'rd':R('x',('w2',)),'r':('rot',(),('w3',),False)}
def mutations():
    print('== mutations')
    by={'w1':w1,'w2':w2,'w3':W('y','e',('w2',)),'w4':W('x','f',('w3',))}
    run('a delta counts with any page',by,init=XY,bound=0,err=1,crash=1)
    run('a delta onto a page of another process',by,init=XY,own='any',err=1,crash=1)
    run('ownership kept after a Put that failed',by,init=XY,forget=0,err=2,crash=0)
    run('the page is read before its delta',{**by,'rd':R('x',('w2',))},init=XY,deltafirst=0,err=0,crash=0)
    run('acknowledged before the directory knows of the delta',{**by,'rd':R('x',('w1',))},init=XY,dflag='after',err=0,crash=0)
    run('a List begun before the delta is installed after it',{**by,'rd':R('x'),'rd2':R('x',('w2',))},init=XY,dflag='nogen',err=1,crash=0)
    run('a delta on another version than its page',{'w1':w1,'w2':w2,'w3':w3,'r':('rot',(),('w1',),False),'cc':('cancel',(),('w1',),False)},init=XY,sameversion=0,err=1,crash=0)
    run('a repeated write acknowledged as it shows',REPEATED,init=XY,fresh=0,err=2)
    run('a delta deleted while its page may show',SPLIT,init=XY,again=0,crash=0)
    run('a rotation takes the page without its delta',{'w1':w1,'w2':w2,'r':('rot',(),('w2',),False)},init=XY,merge=0,err=0,crash=0)
    run('a cancelled rotation does not write all pages anew',{'w1':w1,'w2':w2,'w3':w3,'r':('rot',(),('w2',),False),'cc':('cancel',(),('w2',),False)},init=XY,rewrite=0,err=1,crash=0)
if __name__=='__main__':
    if 'mutations' not in sys.argv: holds()
    if 'holds' not in sys.argv: mutations()
